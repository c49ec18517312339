"""Run a planned server under systemd, or elsewhere.

export.py            systemd unit, compose file, Kubernetes manifest, shell script
systemd.py           write, verify and enable a unit
transient.py         the supervisor as a transient unit of the user's systemd
wait_until_ready.py  a program: wait until a server has produced a token
"""
