"""Place a model's layers, caches and experts on devices and host. Pure.

settle.py     a request as llama.cpp's parameters
arrange.py    a placement with its whole ledger
placement.py  the placement that puts most on devices
division.py   layers divided among devices
threads.py    the number of threads
left_out.py   the devices to do without where RAM is short
numa.py       NUMA mode and cores
pace.py       an arrangement as stages of a forecast
group/        models on many machines, whole or split
"""
