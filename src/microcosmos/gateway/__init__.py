"""HTTP in, rpc out: the public entrypoint on port 8080.

app.py       one request: path to endpoint, call, answer
routes.py    paths to endpoints, remembered
receive.py   the bytes of a body, within limits of size and time
body.py      query strings, JSON, forms and uploads to one JSON request
patience.py  calls whose client has gone are cancelled
answer.py    answers, errors, CORS, compression
worker.py    the app on Granian, on a socket that somebody else bound
door.py      the small gateway of a service that runs alone
"""
