"""Endpoints that take whole HTTP requests: a service's own paths, and applications mounted in it.

paths.py     which of them a path and a method lead to
forward.py   a request there, and the response back, as they come
"""
