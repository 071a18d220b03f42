"""The egress: the one process by which functions reach the world outside.

It takes sub-requests from the host, each with what its function may (`policy.Policy`), looks where
they lead, sends them, and is the only one to fill in the values of secrets. It runs no code of
functions, and is told nothing that it does not need.

addresses.py  which addresses are of the public internet
own.py        which addresses are the platform's own, and are never fetched from
fetch.py      does sub-requests
placeholders.py  fills in the values of secrets, and takes them out of answers
decisions.py  writes down what was allowed and what was refused
door.py       takes sub-requests from the host
client.py     the host's end
"""
