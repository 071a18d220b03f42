"""Functions: scripts that answer HTTP.

What is deployed is a chain of immutable versions, kept by the core. They run in workers, which are
processes of their own: one or more for each owner and engine, forked from a zygote, reached over
Unix sockets. One process, the host, decides which worker runs what and does for the functions what
they may not do themselves: fetch, bindings, timers of schedules, logs, counters.

interface.py     what a function is, its versions, and the verbs of the control plane
wire.py          what is said on a line to a worker
"""
