"""Hugging Face: list a repo, choose a quant, read its headers, download its files.

endpoint.py      the Hub in use: address, token, HTTP client, its failures explained
repo.py          the GGUF files of a repo at one commit
quants.py        choose one quant's files from a repo's listing
headers.py       read the headers of the chosen files, by ranged requests or from the cache
cache.py         where the Hub's own cache has each file, and putting it there
download.py      bring the files here, whole and verified
local_copies.py  link or copy matching files of this machine instead of downloading them
failures.py      explain why a file of the Hub did not arrive
"""
