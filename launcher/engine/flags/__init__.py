"""Write llama-server's command line, and read one. Pure.

argv.py             a plan as a command line
argv_builder.py     its options, collected
ik_flags.py         what ik_llama.cpp is told otherwise
bench_argv.py       the same for llama-bench
from_file.py        the gate for flags that a file brings
command_line.py     a given command line, read
companion_flags.py  flags for a draft model and a projector
help_text.py        parse `--help` and `--version`
listening.py        where a server listens, and whether it asks for a key
preset_ini.py       a file of router presets
preset_options.py   its keys as options, and options as words
router_lines.py     a router's line, and those of its children
memory_flags.py     flags that decide memory
memory_names.py     their other spellings, variables and opposites
pinned_flags.py     the flags of the pinned llama-server
refused_flags.py    flags that cannot be given after `--`
rope_flags.py       flags that change how long a context the model takes
shell_words.py      take a pasted shell line apart
taskset.py          bind a command line to CPUs
user_flags.py       flags after `--`, sorted
"""
