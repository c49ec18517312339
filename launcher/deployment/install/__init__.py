"""Run a planned server under systemd, or elsewhere.

export.py            systemd unit, compose file, Kubernetes manifest, script
systemd.py           write, verify and enable a unit
transient.py         the supervisor as a transient unit
wait_until_ready.py  a program: wait for a first token
"""
