"""Read from web servers that fail, crawl or mean ill: one policy for every read.

policy.py       wait, or give up. Pure
trouble.py      kinds of trouble. Pure
answer.py       judge a server's answer. Pure
connection.py   an HTTP connection
request.py      one request and its redirects
body.py         a body within its limits
reader.py       tries, a deadline, several reads side by side
ranged_file.py  a file read in ranges
"""
