"""Carry a model with all it needs to a machine without a network, in one file.

archive.py   write and read the file: a tar of plain files, its manifest last
manifest.py  the manifest as a value and as JSON, and what it may say
contents.py  what goes in beside the weights: engine, licences, bill of materials
make.py      plan, pull, write
install.py   verify, ask, unpack
"""
