"""Describe models by name: their quants, context, sampling flags.

profile.py        a profile as a value, and choices from it. PURE
modes.py          a mode as llama-server's flags, or as fields of a request. PURE
from_toml.py      read a profile strictly. PURE
recipe_toml.py    read the part that stands in for files. PURE
made_headers.py   make a header from architecture and recipe. PURE
near.py           the profiles that a name nearly names. PURE
folders.py        read the shipped and the user's profiles
"""
