"""Run a deployment on several machines: ssh, ranks there, a gang that ends as one.

remote.py          how another machine is reached
ssh.py             reach it
nodes.py           the machines that this user's launcher knows
ray_start.py       the command of a node of Ray, and what its log says of a start
ray_node.py        start and end this machine's node
ray_peers.py       ask launchers on the others
gang.py            a gang's life: state x event -> state and effects
seats.py           on which machines a gang's ranks are
messages.py        what a rank and its head say to each other
run_gang.py        run a gang: tunnels, ranks, llama-server
tunnel.py          the ssh of one rank
tunnel_end.py      lead llama-server, and nobody else here, into the tunnels
sign_of_life.py    ask a gang's llama-server for one
gang_memory.py     what a gang's runs leave for the next: the last epoch, machines that were lost
rank.py            run a rank: a ggml-rpc-server, as long as its head asks for it
rpc_relay.py       run that server where no other user reaches it, behind a socket
private_socket.py  the name of the socket
"""
