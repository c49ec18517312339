"""The command `launcher`."""


def main() -> None:
    """Run the command line."""
