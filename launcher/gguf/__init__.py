"""Read, check and describe GGUF files. Pure.

header.py             parse a header
cursor.py             a position in its bytes
metadata.py           its key-value pairs
tensors.py            its tensor infos
ggml.py               ggml's tensor types and their sizes
split.py              check that shards make one model
model.py              a model: files and headers
architecture.py       the model's numbers
architecture_keys.py  the metadata of one architecture, checked
block_patterns.py     which blocks slide, recur, cache
recurrence.py         the size of a recurrent state
anatomy.py            parameters, bytes by kind, bytes per token, quant
tensor_names.py       kind and block of a tensor, by name
companion_names.py    projectors, matrices and draft models, by file names
file_names.py         shards, quants and models, by file names
quants.py             quant labels and ggml types
hollow.py             a header, a size and no weights
synthesis.py          a header from published shapes
mixes.py              the types of a quant, by its label
shapes/               metadata and tensors from a model's dimensions
"""
