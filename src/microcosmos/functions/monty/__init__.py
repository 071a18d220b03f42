"""Python functions: they run in Monty, a sandbox of its own process for each request under way.

worker     the process that speaks on the socket; runs no code of functions itself
function   one loaded function: its requests and events, and what they used
sandbox    one process of Monty, and what watches it
pool       the sandboxes of a worker, lent to functions
host       what is asked of the host, and told to it
answers    what a function gave, as a payload
prelude    what a function finds around it, in Monty's Python
"""

import importlib.util

from microcosmos.base import errors

if importlib.util.find_spec("pydantic_monty") is None:
    raise errors.Unavailable(
        "functions.monty",
        "Python functions run on Monty, which is not installed here;"
        " pip install 'microcosmos[monty]'",
    )
