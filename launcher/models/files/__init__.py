"""Model files on this disk: where they go, whether they fit, which can be reused.

place.py           the interface of a place that files go to; hard and symbolic links
plain_folder.py    a folder named with --dir, with files under their own names
copying.py         link or copy files of this machine into such a folder
disk_space.py      refuse a disk that is too small; explain errors of the disk
hashing.py         sha256 of files that are here, remembered once they match
reuse.py           find files of this machine that match, and damaged ones
other_programs.py  folders of Ollama and LM Studio, and files in them of the right size
"""
