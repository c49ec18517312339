"""Plan, fetch and serve the best quantised model that a machine can hold."""

__version__ = "0.1.0"
