"""Compile the pinned llama.cpp on this machine.

build.py          the story: unpack, configure, compile, install, under a lock
job.py            one build: its folders, its key, its cmake arguments
recipe.py         backend, jobs, cmake arguments and key, decided. PURE
cuda_packages.py  NVIDIA's compiler out of packages
toolchain.py      compilers and toolkits of this machine
toolkits.py       which GPU toolkits are installed
source.py         unpack and patch the source tree
install.py        prove the result, record it, rename it into place
build_log.py      read the output of cmake and ninja. PURE
build_errors.py   a failed build in the user's words
"""
