"""What `ls` shows and `rm` takes out."""
