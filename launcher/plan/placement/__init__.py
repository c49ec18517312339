"""Place a model's layers, caches and experts on devices and host. Pure.

settle.py     a request as parameters that llama.cpp accepts
arrange.py    one attempt: a placement with its whole ledger
placement.py  the placement that puts most on devices
division.py   layers divided among devices
left_out.py   devices that take more RAM than they relieve
threads.py    the number of threads
numa.py       NUMA mode and the cores that compute
pace.py       an arrangement as the stages of a forecast
"""
