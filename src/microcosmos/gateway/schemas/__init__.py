"""The schema registry by the REST interface of the Confluent Schema Registry, for JSON Schema.

failures.py       errors as Confluent's clients know them
asked.py          one request: its path, flags and body
subjects.py       subjects and their versions
ids.py            schemas by their ids
settings.py       compatibility modes, and whether a new version fits
visitors.py       who asks: a token, or an id and its password
door.py           from paths to these; an ASGI application
service.py        the core's service `schemas`

https://docs.confluent.io/platform/current/schema-registry/develop/api.html tells the interface.
"""
