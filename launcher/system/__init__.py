"""This operating system and this installation."""
