"""Model ggml's backends: what they can run, what tensors take, how a graph is changed.

fuse_cuda.py        CUDA keeps the inputs of fused operations alive
optimize.py         dispatch to what a backend's graph_optimize does
reorder_vulkan.py   Vulkan moves independent nodes together
support_cuda.py     supports_op and get_alloc_size of CUDA and HIP
support_metal.py    the same of Metal
support_sycl.py     the same of SYCL
support_vulkan.py   supports_op of Vulkan
traits.py           everything about a backend family that decides where memory goes, as data
"""
