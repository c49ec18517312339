"""Run pip once."""
