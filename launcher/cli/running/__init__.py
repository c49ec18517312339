"""Commands about what is up already.

ps.py        ps
logs.py      logs
stop.py      stop
restart.py   restart
history.py   history
enable.py    enable
disable.py   disable
export.py    export
"""
