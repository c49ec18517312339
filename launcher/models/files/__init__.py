"""Model files on this disk: where they go, whether they fit, which can be reused.

place.py           the interface of a place
plain_folder.py    a folder named with --dir
copying.py         link or copy files
disk_space.py      refuse a full disk
hashing.py         compare files with their sha256
reuse.py           matching and damaged files
other_programs.py  files of Ollama and LM Studio
"""
