"""Run a planned server under systemd, or elsewhere.

export.py            a server for elsewhere; systemd unit, script
containers.py        compose file, Kubernetes manifest
ranks.py             LeaderWorkerSet, Slurm, SkyPilot
yaml_text.py         values as YAML
systemd.py           write, verify and enable a unit
transient.py         the supervisor as a transient unit
wait_until_ready.py  a program: wait for a first token
"""
