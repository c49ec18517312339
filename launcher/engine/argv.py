"""A plan in llama-server's dialect."""
