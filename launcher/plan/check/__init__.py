"""Check a given llama-server command line instead of searching for a plan. Pure.

as_json.py        the verdict as JSON
check.py          a ledger, and the verdict on it
configuration.py  what the command line says about memory
peers.py          its devices, those of RPC peers first
cures.py          one flag that makes a line fit
fit.py            what llama-server's --fit makes of the line
pace.py           how fast it will be
paging.py         which experts can be read from the file
overruns.py       which rows are over budget, and when they fail
explanation.py    the reasons, in sentences
together.py       which models of a router may be too large together
"""
