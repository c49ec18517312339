"""Deal with this operating system and this installation of the launcher.

settings.py      environment variables, folders and the config file
packages.py      pinned packages, downloaded with pip
run_program.py   run a program to its end, line by line
locks.py         one writer at a time
atomic_files.py  write a file whole or not at all
cpus.py          the CPUs that this process may use
certificates.py  whose certificates to trust
toml_table.py    read TOML strictly
json_object.py   read JSON strictly
"""
