"""Raw HTTP for services: the whole request in, any response out.

endpoint.py   a function that takes a request and gives a response
mount.py      an ASGI application as an endpoint of a service
bridge.py     one request of rpc's HTTP as ASGI has it
fresh.py      answers of 304 to who has the current version
"""
