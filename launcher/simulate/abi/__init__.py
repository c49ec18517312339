"""Call ggml's and llama.cpp's libraries, and read their structures in memory.

binding.py        the engine's libraries: loaded, checked, and the functions called
graph.py          a ggml_cgraph: its nodes, their uses, and which of them can be fused
layout.py         C structures and callbacks as ctypes, by GGML_BACKEND_API_VERSION
layout_check.py   check that the structures fit the library that is loaded
llama_api.py      llama.h: parameters, by the layout that the library's defaults tell, and functions
ops.py            one operation with its tensors, and ggml's own predicates on them
"""
