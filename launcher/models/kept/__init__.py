"""What `launcher ls` shows and `launcher rm` removes.

stored_model.py  a quant in a store
list.py          models in all stores
folders.py       folders that --dir and --from named
remove.py        remove a model
"""
