"""Find the settings that a machine runs a plan fastest with, by trying them. Pure.

settings.py  what may be tried instead of a plan's own
tuner.py     state x event -> state and what to try next
pairs.py     whether the best is faster than the plan, by measurements in turns
tuned.py     what was found, as a value and as JSON
"""
