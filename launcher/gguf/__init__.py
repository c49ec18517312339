"""Read, check and describe GGUF files. Pure.

header.py             parse a header from the first bytes of a file
cursor.py             a position in those bytes
metadata.py           the key-value pairs of a header
tensors.py            the tensor infos of a header
ggml.py               ggml's tensor types and their sizes
split.py              check that shards make one model
model.py              a model: its files and their headers
architecture.py       the model's numbers, as llama.cpp reads them
architecture_keys.py  the metadata of one architecture, checked; which ones llama.cpp loads
block_patterns.py     which blocks slide, recur, cache: per architecture
recurrence.py         the size of a recurrent state
anatomy.py            parameters, bytes by kind, bytes per token, quant
tensor_names.py       the kind and the block of a tensor, by its name
file_names.py         shards, quants and models, by file names
quants.py             quant labels and ggml types
hollow.py             a file with a header, a size and no weights
synthesis.py          make a header from published shapes
"""
