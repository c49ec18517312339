"""What `launcher ls` shows and `launcher rm` removes.

stored_model.py  one quant in one store, and the groups of files in a folder
list.py          list the models in all stores; pick those to remove
folders.py       the folders that --dir and --from named
remove.py        remove a model, and free what nothing else uses
"""
