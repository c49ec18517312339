"""The small process that stays beside a server: `python -m launcher.deployment.supervisor STATE_FILE`.

bookkeeping.py    write claim and history
child.py          llama-server, its pipes and its part of the log
lifecycle.py      decide what to do: state x event -> state and effects
protect.py        memory limit, no core, death before the desktop
questions.py      ask the child in threads
ready.py          wait for the first token, notice a stall
record_keeper.py  write the record, and what happens into the log
supervisor.py     the main loop
vram_growth.py    GPU memory that a load takes
"""
