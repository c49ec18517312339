"""Model files on this disk: where they go, whether they fit, which can be reused.

place.py           the interface of a place for files
plain_folder.py    a folder named with --dir
copying.py         link or copy files into a folder
disk_space.py      refuse a full disk, explain disk errors
hashing.py         sha256 of files that are here
reuse.py           matching files, damaged files
other_programs.py  files of Ollama and LM Studio
"""
