"""The OpenAPI document of what can be called, and a page to read and try it.

schemas.py      what services say of their types, checked, under names of the document
shapes.py       schemas of foreign services that tell none
examples.py     a value that fits a schema
parameters.py   the fields of a request in a query string
failures.py     the errors that any call may end in
operations.py   an endpoint as the operations of a path
raw.py          raw HTTP endpoints, of which only paths and methods are known
document.py     services to one document; pure functions
publisher.py    documents made when somebody asks, kept until the registry changes
site.py         what is answered at /openapi and /openapi.json
page.html       the page
cli.py          `micro openapi`
"""
