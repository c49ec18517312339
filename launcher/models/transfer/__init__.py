"""Fetch files over HTTP: several connections, resumed after any end, hashed as they arrive.

transfer.py       the leading thread: open shards, start threads, accept what is whole, report
download.py       what is to be fetched, and the interface of whom it is for
schedule.py       which bytes to ask for next, and what a failure leads to. Pure
receiving.py      a connection's thread: ask for a span, write and hash what comes
connection.py     one HTTP connection, its proxy and its certificates
request.py        one ranged request: redirects, tokens, errors
response.py       what the server's answer means. Pure
failures.py       kinds of trouble and the wait before the next try. Pure
sync_and_hash.py  the threads that put bytes on the disk and hash the rest
digest.py         the sha256 of a file that arrives in pieces
partial_file.py   the file being filled, preallocated, with its journal
journal.py        which units of a partial file are here, across kill -9 and power loss
state.py          what these threads share
tuning.py         every number that decides how hard a transfer tries
"""
