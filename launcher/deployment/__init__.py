"""Keep a server running after the command that started it.

address.py           exposure and URL
await_ready.py       wait for a ready record
check_record.py      what a record may start
claims.py            memory that deployments reserve
reserved.py          reserved memory that the system calls free
cluster/             a deployment on several machines
deploy.py            bring up, attend in the foreground
history.py           a line for every load
identity.py          tell processes apart, although pids are reused
install/             systemd units, servers for elsewhere
log_file.py          rotate, read, follow the log
options.py           settings of a supervisor
kept_ports.py        the port that a deployment had last
ports.py             free ports
process.py           start and end a process tree
record.py            a deployment as a value and as JSON
records.py           record files and their locks
replicas.py          several deployments of one model
seal.py              which records this launcher wrote
start_supervisor.py  as a systemd unit or a process
status.py            running, degraded, gone
supervisor/          restarts the server
takedown.py          end a deployment and forget it
"""
