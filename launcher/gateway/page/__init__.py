"""Show the gateway in a browser, and chat: one file that loads nothing from elsewhere.

page.py  answer with the file, and say what it may do
"""
