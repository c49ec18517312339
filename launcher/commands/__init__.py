"""One story a command: finds, decides by asking `plan`, acts; prints nothing."""
