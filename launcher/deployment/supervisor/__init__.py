"""The small process that stays beside a server and restarts it.

bookkeeping.py    claim and history
child.py          llama-server and its pipes
lifecycle.py      state x event -> state and effects
log_writer.py     write the log, bounded
protect.py        memory limit, no core, death before the desktop
questions.py      ask the child in threads
ready.py          wait for the first token, notice a stall
record_keeper.py  write the record
supervisor.py     the main loop
take_up.py        check a record, and supervise it
vram_growth.py    GPU memory a load takes
"""
