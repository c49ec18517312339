"""Predict how fast a plan will be, with a band, from published measurements. Pure.

processors.py  speeds of GPUs and hosts, by name
factors.py     what is fitted to measurements
decode.py      seconds for one token
core_rate.py   one core, by the types of a model
head_time.py   one core, for a cached token of an attention head
drafts.py      tokens drafted several at once
prefill.py     seconds for a prompt
turn.py        one turn of a conversation
subject.py     which model, engine and machine were measured
benched.py     what was measured of a command line
noise.py       a difference, or noise
measured.py    measured speeds in place of forecasts
"""
