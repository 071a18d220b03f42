"""HTTP in, rpc out: the public entrypoint on port 8080.

app.py         one request: path to endpoint, call, answer
routes.py      paths to endpoints, remembered
receive.py     the bytes of a body, within limits of size and time
body.py        query strings, JSON, forms and uploads to one JSON request
patience.py    calls whose client has gone are cancelled
answer.py      answers, errors, CORS, compression
encodings.py   what a client accepts, and what it has already
streams/       Server-Sent Events, JSON a line, WebSockets
raw/           endpoints that take whole requests, and mounted applications
openapi/       the document of everything that can be called, and its page
functions/     functions: a request to the worker that runs one, and its answer
grpcweb.py     gRPC-Web, handed to the proxy
front/         policies: limits, block list, static files, routes, cache, proxies
request.py     a request, and its exchange, as they are changed on their way
handing.py     how requests are handed on, from Granian and from one application to the next
exchange.py    an exchange of Granian's, for who wants to see its answer
access.py      the access log: a line for each request
lines.py       lines of several processes in one file
request_id.py  what a client calls its request is said again
entrance.py    what a request passes before the policies
edge.py        TLS and access log, as the supervisor tells a gateway
http2.py       requests of HTTP/2, told as those of HTTP/1.1
idle.py        connections without requests are closed
worker.py      the app on Granian, on a socket that somebody else bound
door.py        the small gateway of a service that runs alone
"""
