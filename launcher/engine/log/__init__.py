"""What llama-server says, and why it ended."""
