"""Check a given llama-server command line instead of searching for a plan. Pure.

as_json.py        the verdict as JSON
check.py          the verdict: a ledger, and what is over budget
configuration.py  what a command line says about memory, completed by a model and a machine
explanation.py    the reasons, in sentences
"""
