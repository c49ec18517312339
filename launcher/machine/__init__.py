"""Describe the machine that a plan is made for.

machine.py        the machine
cards/            graphics cards: memory, bandwidth, arithmetic
gpus.py           graphics cards by name
cpus.py           processors by name: memory channels and cores
shared_memory.py  which GPUs have the host's memory
peers.py          devices on other machines, behind ggml-rpc-servers
fleet.py          which machines a cluster has
from_words.py     from `--gpu 3090:2 --ram 128G --cpu "EPYC 9355"`
from_toml.py      read from a file
to_toml.py        written to a file
measured.py       what was measured of it
rig.py            tell one from another
probe/            this machine
"""
