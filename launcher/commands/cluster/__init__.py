"""Run models on machines that ssh leads to; list those that Ray knows, too.

describe.py    this machine, as another launcher asks about it
membership.py  add, list, drain and leave; what is free on all of them
by_ray.py      start and join a cluster by Ray, leave it, look at its machines
rank.py        a part of a gang, on this machine, for a head elsewhere
place.py       a plan over the machines there are
replicas.py    several of a model, each on a machine of its own
up.py          start a model where it fits
there.py       whole on another machine
split.py       over several, with its head here
stop.py        stop what runs there
"""
