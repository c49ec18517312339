"""Run a deployment on several machines: ssh, ranks there, a gang that ends as one.

remote.py      how another machine is reached
ssh.py         reach it
nodes.py       the machines that this user's launcher knows
gang.py        a gang's life: state x event -> state and effects
seats.py       on which machines a gang's ranks are
messages.py    what a rank and its head say to each other
run_gang.py    run a gang: tunnels, ranks, llama-server
rank.py        run a rank: a ggml-rpc-server, as long as its head asks for it
"""
