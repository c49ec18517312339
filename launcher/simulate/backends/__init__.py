"""What each backend can run, and does to a graph before it runs."""
