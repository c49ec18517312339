"""Plan models for vLLM, beside llama.cpp's plan or instead of it.

gpus.py   the GPUs that vLLM would use on a machine
model.py  from a REF to a model in safetensors
plan.py   plan it, for one machine or several
"""
