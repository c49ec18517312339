"""Read llama-server's log: what it allocated, and why it ended. Pure.

cause.py          why a llama-server ended, as a value
complaints.py     messages before an end, and what they mean
diagnose.py       find the cause from log and exit status
explain_match.py  make the cause of a matched message
load_log.py       what was allocated, compared with the plan
vllm_log.py       why vLLM ended
quiet.py          what requests log, left out
"""
