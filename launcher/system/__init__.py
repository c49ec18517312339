"""Deal with this operating system and this installation of the launcher.

settings.py      environment, folders and config file
config_text.py   change a value in the text of the config file
packages.py      pinned packages, with pip
pip.py           run pip once, and judge it
network/         one policy for every network read
run_program.py   run a program, line by line
locks.py         one writer at a time
atomic_files.py  write whole or not at all
owned_files.py   open nothing that others planted
umask.py         make nothing that all users may write to
cpus.py          usable CPUs
certificates.py  whose certificates to trust
small_files.py   open and read files that may be anything by now
zip_entries.py   what zip archives of others may be
foreign_patterns.py  compile regular expressions of others
toml_table.py    read TOML strictly
json_object.py   read JSON strictly
json_lines.py    keep values as lines of JSON
"""
