"""Streams over HTTP: Server-Sent Events, JSON a line, WebSockets.

streams.py      one stream: which form, the call behind it, its end
outlet.py       an answer that goes out as it comes
ndjson.py       the form of one JSON a line, of answers and of bodies
sse.py          the form of Server-Sent Events
websocket.py    a WebSocket: messages, pings, limits, closing
borrowed.py     a WebSocket as Granian has it, for connections with TLS
handshake.py    which WebSockets are let in, and how the others are told
origins.py      from which sites browsers may open a WebSocket
descriptors.py  the sockets of connections, which Granian keeps to itself
room.py         how an answer is held up by a client that does not read
backlog.py      how far the streams of an HTTP/2 connection are ahead of their client
beats.py        one timer for everything that must show that it lives
"""
