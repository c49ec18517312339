"""Describe the machine that a plan is made for.

machine.py     a machine as the planner sees it
gpus.py        graphics cards by the name people type
from_words.py  a machine from `--gpu 3090:2 --ram 128G`
from_toml.py   a machine read from a file
to_toml.py     a machine written to a file
probe/         look at the machine we run on
"""
