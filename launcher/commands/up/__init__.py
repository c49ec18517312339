"""Reserve, pull, start, and plan again where memory ran out.

up.py              the story: inspect, probe, plan, pull, start
request.py         what is asked for, checked and compared with what runs already
pull_meanwhile.py  pull while an engine is built
start.py           one server for one plan: what is told and recorded
retry.py           plan again where memory ran out, and remember what helped
vllm.py            the same story on vLLM
locked.py          start exactly what a lock file holds
"""
