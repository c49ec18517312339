"""Count the bytes of a model's parts, place by place. Pure.

weights.py              weights of every layer, from the headers
kv.py                   caches: keys, values and recurrent state
compute.py              compute buffers, estimated
kernels.py              tensor types and head sizes that backends lack kernels for
budget.py               the part of a machine's memory that a plan may use
ledger.py               one row per device and the host's, for a placement
host_memory.py          prompt cache, checkpoints and load mode
companion_questions.py  a draft model or projector as llama-server loads it
companion_memory.py     the memory of companions, and a ledger with it
projector.py            compute of a projector, and how far it grows
assign.py               llama.cpp's own assignment of layers and tensors
estimate.py             a simulator's question, answered by these formulas
simulated.py            questions about a plan, and a ledger with the answer
tensor_split.py         a ledger under `--split-mode tensor`
"""
