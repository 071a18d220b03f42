"""What stands before the gateway: who may come in, what is answered at the door, where paths lead.

front.py       one request through every policy, in order
settings.py    gateway.toml, read and checked
file.py        where that file is, and its changes while the gateway runs
following.py   the policies of a server's gateway, kept current
addresses.py   IP addresses and networks
proxies.py     which address a client really has
blocks.py      who is refused
blocklist.py   the core's list of the blocked, served as `Api`, and followed
limits.py      how much anyone may ask for
counters.py    what has been asked for, in memory that the gateways share
routing.py     hosts, routes and redirects
static.py      files of a folder
cache.py       answers that are given again
"""
