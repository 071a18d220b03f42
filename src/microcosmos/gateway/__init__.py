"""HTTP in, rpc out: the public entrypoint on port 8080.

app.py      one request: path to endpoint, call, answer
routes.py   paths to endpoints, remembered
body.py     query strings, JSON, forms and uploads to one JSON request
answer.py   answers, errors, CORS, compression
worker.py   the app on Granian, on a socket that is given or bound
door.py     the small gateway of a service that runs alone
"""
