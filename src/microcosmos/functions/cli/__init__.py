"""`micro functions`: deploy functions, and look after them."""

from __future__ import annotations

import click

from .deploying import deploy, validate
from .limits import limits
from .looking import consumption, get, history, list_, logs, verify
from .quotas import quota
from .running import invoke
from .secrets import secret
from .versions import delete, diff, pardon, rollback, split


@click.group()
def functions() -> None:
    """Deploy functions, and look after them.

    A function is a script, a function `handler` or a module that answers HTTP below /NAME. Each
    deploy makes a version; none is ever changed.
    """


for _command in (
    *(deploy, validate, list_, get, history, diff, rollback, split, delete),
    *(invoke, logs, consumption, verify, secret, limits, quota, pardon),
):
    functions.add_command(_command)
