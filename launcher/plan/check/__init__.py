"""A given command line instead of a search."""
