"""Point other programs at the gateway: print their settings, or write them.

clients.py        PURE: the programs, and the settings of each
litellm.py        PURE: LiteLLM's proxy before the gateway, its key in the environment
jsonc.py          PURE: set values in JSON with comments, and leave the rest as it is
edit.py           PURE: set values in a file's text, and prove that nothing else changed
write.py          write them, with a backup; find out what the gateway serves
ask.py            ask one question the way a program would
file_contexts.py  contexts of models that are not loaded
"""
