"""Count the bytes of a model's parts, place by place. Pure.

weights.py              weights of every layer
kv.py                   keys, values and recurrent state
amx.py                  layouts of a processor with AMX
ik.py                   what ik_llama.cpp allocates otherwise
compute.py              compute buffers, estimated
tables.py               tables that are read by rows from the file
kernels.py              what backends lack kernels for
budget.py               what a plan may use
ledger.py               a row per device and the host's
host_memory.py          prompt cache, checkpoints, load mode
companion_questions.py  companions as llama-server loads them
companion_memory.py     companions in a ledger
companion_rows.py       what one companion takes
draft_memory.py         draft models, heads and MTP blocks
projector.py            compute of a projector
assign.py               llama.cpp's assignment of tensors
estimate.py             a question answered by formulas
simulated.py            a ledger by simulation
tensor_split.py         a ledger under `--split-mode tensor`
"""
