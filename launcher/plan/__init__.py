"""Decide how llama-server runs a model on a machine, or say what is missing. Pure.

plan.py            the result: Plan, with its Placement, or Shortfall
workload.py        the request: Workload, and Limits on the machine
parameters.py      ContextParameters: context, slots, cache types, batches, flash attention
amounts.py         bytes with their provenance, and the rows of a ledger
modes.py           llama-server's choices as enums
oracle.py          the questions that a simulator answers
rope.py            how long a request can be under RoPE scaling
companions.py      a draft model and a projector, as asked for and as read
overrides.py       `-ot`: rules that send single tensors to a place
expert_pattern.py  one regular expression for the experts of chosen blocks
reasons.py         the planner's choices in sentences
as_json.py         a plan as a JSON document
from_json.py       a plan read back from its document
memory/            how many bytes, place by place
placement/         which layers go to which device
forecast/          how fast a plan will be
search/            the best plan among quants and settings
check/             the verdict on a given command line
"""
