"""Decide which models run and which requests wait: state x event -> state, effects. Pure.

state.py     the models, the memory they hold, and the requests that wait
events.py    what happens, and what is to be done about it
advance.py   the table: what every event changes
settle.py    what follows: admit, start, unload, refuse
choose.py    who goes first, who makes room, what fits, and why not
"""
