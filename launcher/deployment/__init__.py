"""A server that runs: brought up, recorded, looked at, taken down."""
