"""Run models on the machines of a cluster, which ssh leads to.

describe.py    this machine, as another launcher asks about it
membership.py  add, list, drain and leave; what is free on all of them
rank.py        a part of a gang, on this machine, for a head elsewhere
place.py       a plan over the machines there are
replicas.py    several of a model, each on a machine of its own
up.py          start a model where it fits
there.py       whole on another machine
split.py       over several, with its head here
stop.py        stop what runs there
"""
