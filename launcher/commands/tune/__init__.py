"""Find faster settings for a model on this machine by trying them: `launcher tune`.

tune.py      the story: plan, then let the tuner say what is tried next
trial.py     one trial: planned, reserved, served, timed
prompts.py   what is measured: the user's prompts, or tokens at random
report.py    the outcome, and every trial that led to it
"""
