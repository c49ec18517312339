"""What llama-server is told, and what a command line tells it."""
