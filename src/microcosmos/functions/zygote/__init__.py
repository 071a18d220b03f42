"""The zygote: a small warm process that makes function workers, and decides nothing.

messages   what it is told, and says
kinds      how each kind of worker is started
complaints what they write to their standard error
children   the workers that live: made, signalled, reaped
process    the process itself: one thread, one loop over sockets
client     the host's end
"""
