"""Hugging Face: list a repo, choose a quant, read its headers, download its files.

endpoint.py      address, token, cache
api.py           ask for a commit, and its files
api_json.py      what the API answers. Pure
repo.py          GGUF files of a repo at a commit
quants.py        choose one quant's files
headers.py       read headers by ranged requests
cache.py         the Hub's own cache
download.py      bring files here, verified
local_copies.py  link or copy instead of downloading
failures.py      explain failed reads and downloads
"""
