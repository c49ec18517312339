"""Find or build llama.cpp's programs, and talk to llama-server.

find.py           which llama-server is used
ask.py            run it with `--version` or the like
default.py        which of several engines is used, and which was before
capabilities.py   what it understands, asked once per engine
architectures.py  the architectures whose names its libraries have
devices.py        the devices that it sees
dialect.py        llama.cpp or ik_llama.cpp, by its help. PURE
placing.py        a finished engine gets its place
environment.py    the variables and config files it is started with
client.py         its HTTP API
chat.py           a chat's answer, piece by piece
models_dir.py     the models of a folder, as it lists them
timed.py          a completion, timed by its client
key_file.py       the keys that its clients have to know
vllm_with_key.py  start vLLM with the key of a file
protocol.py       its stdout when it runs as a child. PURE
pinned.py         the llama.cpp version that is built here. PURE
host_cpu.py       the processor that code is compiled for
answers.py        an old name that running deployments start
sources/          get one that somebody else has built
compile/          build the pinned llama.cpp
flags/            what llama-server is told on its command line. PURE
log/              what llama-server says in its log. PURE
"""
