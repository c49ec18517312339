"""Decide how llama-server runs a model on a machine, or say what is missing. Pure.

plan.py            the result: Plan or Shortfall
workload.py        the request, and limits on the machine
parameters.py      context, slots, cache types, batches
amounts.py         bytes with their provenance, ledger rows
modes.py           llama-server's choices as enums
oracle.py          questions to a simulator
rope.py            context under RoPE scaling
companions.py      draft model and projector
overrides.py       `-ot` rules
expert_pattern.py  a regular expression for experts
reasons.py         the choices in sentences
as_json.py         a plan as JSON
from_json.py       a plan read back
vllm/              what vLLM takes, and how it runs
memory/            how many bytes, place by place
placement/         which layers go where
forecast/          how fast a plan will be
search/            the best plan
tuning/            faster settings, found by trying
check/             the verdict on a given command line
"""

import sys
from importlib import import_module
from types import ModuleType


class _Room(ModuleType):
    """This package, which can be called too: scripts know it as the function `launcher.plan`."""

    def __call__(self, *given: object, **wishes: object) -> object:
        return import_module("launcher.api").plan(*given, **wishes)


# Python binds an imported package to its name in the parent, over any function of that name.
sys.modules[__name__].__class__ = _Room
