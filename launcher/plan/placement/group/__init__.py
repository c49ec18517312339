"""Place models on many machines: whole on one where it holds them, else split over several. Pure.

values.py    machines of a fleet, plans for their classes, what is placed where
members.py   machines as the planner sees them, alone or as a head with peers
replicas.py  machines for replicas of one model, by zone and speed
room.py      what is left of a machine
seats.py     the machines of one replica
place.py     a layout of all models, which moves only what was lost
"""
