"""Choose among quants, KV cache types, ubatches and placements. Pure.

candidates.py    what fits of one quant
changes.py       what small changes would cost
choice.py        the result of a search
compose.py       make a plan of an arrangement
glance.py        one quant in milliseconds, for lists
preference.py    order by quality, speed or both
purchase.py      what to buy or change if nothing fits
quant_search.py  the search within one quant
rejected.py      why the others were not taken
rescue.py        plan again after running out of memory
search.py        the search
shortfall.py     what is missing where
speculation.py   whether a model's MTP blocks pay
task.py          what a search is given
verify.py        check an arrangement by simulation
"""
