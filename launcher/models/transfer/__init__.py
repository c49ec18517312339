"""Fetch files over HTTP: several connections, resumed after any end, hashed as they arrive.

transfer.py       the leading thread
download.py       a file to fetch, and who receives it
schedule.py       which bytes to ask for next. Pure
receiving.py      a connection's thread
request.py        a ranged request
sync_and_hash.py  threads that sync and hash
digest.py         sha256 of a file in pieces
partial_file.py   the file being filled
journal.py        units that survive a crash
state.py          what the threads share
tuning.py         how hard a transfer tries
"""
