"""`python -m launcher` is the command `launcher`."""

from launcher.cli.main import main

main()
