"""The AsyncAPI document of what is published and by whom it is read, and a page of it.

flows.py      what is known of topics: their schemas, and the services at both ends
messages.py   a topic's schema as a message of the document
document.py   all of it as one AsyncAPI 3 document; pure functions
page.py       the document as a page, complete in itself
trees.py      schemas on the page
yaml.py       the document as YAML
site.py       what is answered at /asyncapi and /asyncapi.json
cli.py        `micro events asyncapi`
"""
