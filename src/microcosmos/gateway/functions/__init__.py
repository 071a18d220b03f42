"""Functions over HTTP: a request to the worker that runs one, and its answer back.

heads.py     what a worker is told of a request
bodies.py    bodies of requests: short ones whole, others as they come
answers.py   what a worker answers, as HTTP
door.py      one request from its path to its answer
"""
