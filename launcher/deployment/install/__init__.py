"""The server for elsewhere: systemd, compose, kubernetes, a shell script."""
