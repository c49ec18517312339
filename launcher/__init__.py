"""Turns a machine into a private, OpenAI-compatible endpoint for the best quantised model it can hold."""

__version__ = "0.1.0"
