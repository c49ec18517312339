"""Write a server for elsewhere: what runs here, or what is planned for another machine.

running.py  a deployment, with its files as they lie
planned.py  a plan for a machine, or several, that are not here
vllm.py     the ranks of a plan for vLLM
written.py  the server in its format
"""
