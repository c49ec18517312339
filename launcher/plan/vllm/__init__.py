"""Count what vLLM takes of GPUs, and decide how it runs a model there. Pure.

shape.py        a model as vLLM loads it: bytes of its layers, width of its cache
from_config.py  the shape of a model, out of its config.json
ledger.py       bytes of a rank, and the tokens its cache holds
plan.py         how many ranks, and the verdict on them
flags.py        vLLM's own flags, as typed
argv.py         the command lines of the ranks
"""
