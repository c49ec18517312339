"""Build a published model's metadata and tensors from its dimensions. Pure.

dimensions.py  the numbers of a config.json, checked
parts.py       tensors that most models have
dense.py       llama, qwen2, qwen3, phi3, gemma3 and encoders
experts.py     mixtures of experts
hybrid.py      gated delta nets between attention: qwen35, qwen35moe
gemma4.py      sliding and full blocks of different shapes
build.py       the builder of each architecture
"""
