"""Talk to a running deployment.

chat.py      one answer, or a conversation
answer.py    stream one answer: print it, and stop one that repeats itself
requests.py  what a request asks beside its messages: sampling, schema, images
slash.py     what begins with / in a conversation
editor.py    read lines from the user, with history
markdown.py  print an answer block by block
piped.py     what is piped in, in any encoding
keys.py      keys that are pressed during an answer stay off the screen
loops.py     does a text only repeat itself. PURE
"""
