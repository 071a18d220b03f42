"""The command: all checks, a line each."""

from __future__ import annotations

import os

import click

from microcosmos.cli import render
from microcosmos.cli.session import Session

from . import login, machine, server, state, walls
from .finding import Finding, Subject, examine

CHECKS = (
    *machine.CHECKS,
    *state.CHECKS,
    *server.CHECKS,
    *login.CHECKS,
    *walls.CHECKS,
)
"""Every check, in the order of its lines."""


@click.command()
@click.pass_obj
def doctor(session: Session) -> None:
    """Find out what is wrong.

    Each line is ok, warn or fail, and says what to do. It changes nothing. The exit code is 1
    when something fails, else 0.
    """
    environments, chosen = session.environments, session.environment
    found = examine(CHECKS, Subject(session.home, environments, chosen, os.environ))
    shown = found if session.output == "json" else map(Finding.readable, found)
    for line in render.lines(shown, session.output):
        click.echo(line)
    if any(finding.status == "fail" for finding in found):
        raise click.exceptions.Exit(1)
