"""Run llama.cpp's own allocator without memory, to learn what llama-server would allocate.

simulations.py    the entry: simulations of one model, with answers kept on disk
client.py         a pool of worker processes, one per machine shape
deaths.py         how a worker process ended, in words
worker.py         one worker process: JSON lines in and out
limits.py         the memory and computing time that a question may take
wire.py           questions and answers as JSON
run.py            one simulation: load, build the context, reserve the graphs, read off the sizes
draft.py          a draft context on the main one's states, beside it
devices.py        virtual devices, their buffers and C callbacks
op_callbacks.py   what a virtual device answers about one operation
meta.py           --split-mode tensor: llama.cpp's one device divided among the real ones
fit.py            llama-server's --fit, by the engine's own code
projector.py      multimodal projectors, by libmtmd's own account
rows.py           llama.cpp's accounts as the rows of an answer
log.py            what only the log says
abi/              ggml's and llama.cpp's libraries and structures in memory
backends/         what each backend can run, and how it changes a graph
"""
