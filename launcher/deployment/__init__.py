"""Keep a server running after the command that started it: start, record, watch and end it.

address.py           who can reach a server, and its URL
await_ready.py       wait in the launcher until the record says ready
claims.py            memory reserved by every deployment on this host
deploy.py            bring a deployment up, attend it in the foreground
history.py           a line for every load: planned, allocated, how it ended
identity.py          recognise a process, although pids are reused
install/             systemd units, and the server for elsewhere
log_file.py          rotate, read and follow llama-server's log
options.py           what a launcher tells its supervisor
ports.py             find free ports, and who has the others
process.py           start a process that outlives us, end its whole tree
record.py            a deployment as a value and as JSON
records.py           the files of the records, and their locks
start_supervisor.py  as a unit of systemd, or as a process
status.py            running, degraded, gone: what a deployment is right now
supervisor/          the process that stays beside a server and restarts it
takedown.py          end a deployment and forget it
"""
