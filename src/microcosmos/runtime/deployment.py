"""The records of the runtime: what is deployed, how it should run, how it fares."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.store.interface import Store

from .source import Source

Status = Literal[
    "unknown", "pending", "building", "starting", "running", "stopping", "stopped", "error"
]

SETTLED = frozenset({"running", "stopped", "error"})
"""The statuses at which nothing is under way."""

MAX_INSTANCES = 64
"""The most replicas of one service."""

MAX_HISTORY = 20
"""How many versions a deployment remembers."""

SECRET = "[secret]"

_ID = "runtime"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN_VARIABLES = (
    "MICRO_AUTH_ID",
    "MICRO_AUTH_SECRET_FILE",
    "MICRO_HOME",
    "MICRO_NAMESPACE",
    "MICRO_REPLICA",
    "NATS_URL",
    "NATS_CREDS",
    "NATS_INBOX_PREFIX",
)
_OWN_NOTES = frozenset(("announces", "command", "error", "group", "owner", "source"))


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks something of the runtime, and about which namespace.

    Attributes:
        namespace: the one that the call is made in.
        id: of the account.
        group: the namespace that the account lives in.
    """

    namespace: str = DEFAULT_NAMESPACE
    id: str = "admin"
    group: str = DEFAULT_NAMESPACE


LOCAL = Caller()
"""Where there are no accounts."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service should run.

    Attributes:
        command: a command line in place of the entry that the folder has.
        args: arguments for the program.
        env_vars: variables of its environment.
        instances: how many replicas.
        metadata: notes that `micro status` shows.
    """

    command: str = ""
    args: list[str] = []
    env_vars: dict[str, str] = {}
    instances: int = 1
    metadata: dict[str, str] = {}


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version that went live.

    Attributes:
        hash: of its content.
        source: where it came from, as text.
        version: the ref that was asked for, or ``latest``.
        commit: what the ref meant then; empty when it was no repository.
        command: what was started in place of its entry; empty for that.
        author: who deployed it.
        message: why.
        time: when, in seconds since the epoch.
    """

    hash: str
    source: str
    version: str
    commit: str
    author: str
    message: str
    time: float
    command: str = ""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One deployed service.

    Attributes:
        name: its one name in `micro status`, `logs`, `update` and `kill`, in its namespace.
        namespace: where it is called.
        version: the ref, or ``latest``.
        source: where its code comes from.
        options: how it should run.
        hash: of the content that is live; of the one to come until then.
        commit: what the ref meant; empty when the source is no repository.
        generation: changes with every deploy; part of its processes' names.
        owner: the account it belongs to.
        group: the namespace of that account, as the METADATA column shows it.
        status: ``running`` only while a replica answers.
        build: ``n/a`` without an environment, else its key, or ``failed``.
        error: one line, empty when all is well.
        output: the last lines of what failed.
        ready: how many replicas answer.
        announces: the names it answers under, if its own is not among them.
        updated: when it was deployed, in seconds since the epoch.
        author: who deployed it last.
        message: why.
        revision: grows with every change of this record, for those who wait for one.
        history: the versions that went live, the newest last.
        target: what it is about to become, so that a restarted core goes on with it.
    """

    name: str
    namespace: str = DEFAULT_NAMESPACE
    version: str = "latest"
    source: Source
    options: Options = Options()
    hash: str = ""
    commit: str = ""
    generation: str = ""
    owner: str = "admin"
    group: str = DEFAULT_NAMESPACE
    status: Status = "pending"
    build: str = "n/a"
    error: str = ""
    output: list[str] = []
    ready: int = 0
    announces: list[str] = []
    updated: float = 0.0
    revision: int = 0
    history: list[Version] = []
    author: str = ""
    message: str = ""
    target: Deployment | None = None

    @property
    def label(self) -> str:
        """What its processes and files are called: no two deployments have one label."""
        return label(self.namespace, self.name)

    @property
    def settled(self) -> bool:
        """Whether nothing is under way."""
        return self.status in SETTLED

    def metadata(self) -> dict[str, str]:
        """The METADATA column: the user's own, owner and group, and the error if there is one.

        A command in place of the entry, and names that are not the service's, are told as well.
        """
        shown = {**self.options.metadata, "owner": self.owner, "group": self.group}
        more = {
            "command": self.options.command,
            "announces": " ".join(self.announces),
            "error": self.error,
        }
        return {**shown, **{key: text for key, text in more.items() if text}}

    def masked(self) -> Deployment:
        """As others may see it: variables are often secrets, so only their names."""
        hidden = dict.fromkeys(self.options.env_vars, SECRET)
        options = msgspec.structs.replace(self.options, env_vars=hidden)
        return msgspec.structs.replace(self, options=options, target=None)


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`micro run`.

    Attributes:
        source: where the code comes from.
        name: the service's name, else the base name of its folder.
        upload: the id of a finished upload, when the source is a folder.
        options: how it should run.
        force: replace what is deployed under the name.
        message: why, for the history.
    """

    source: Source
    name: str = ""
    upload: str = ""
    options: Options = Options()
    force: bool = False
    message: str = ""


class UpdateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`micro update`.

    Attributes:
        name: what `micro status` shows.
        ref: another branch, tag or commit of the same repository; empty for the recorded one.
        source: another source altogether.
        upload: the id of a finished upload, when the source is a folder.
        options: how it should run from now on; None leaves that as it is.
        instances: as many replicas from now on; 0 leaves that as it is.
        message: why, for the history.
    """

    name: str
    ref: str = ""
    source: Source | None = None
    upload: str = ""
    options: Options | None = None
    instances: int = 0
    message: str = ""


def label(namespace: str, name: str) -> str:
    """What stands for a deployment in the names of processes and files.

    Neither names nor namespaces have an ``@``.
    """
    return name if namespace == DEFAULT_NAMESPACE else f"{name}@{namespace}"


def check_options(options: Options) -> Options:
    """Return how a service should run when that is possible.

    Raises:
        errors.BadRequest: it is not; the detail names the option.
    """
    if not 1 <= options.instances <= MAX_INSTANCES:
        raise errors.BadRequest(_ID, f"instances: {options.instances} is not 1 to {MAX_INSTANCES}")
    for name, value in options.env_vars.items():
        if not _VARIABLE.fullmatch(name):
            raise errors.BadRequest(_ID, f"env_vars: {name[:80]!r} is no name of a variable")
        if name in _OWN_VARIABLES or name.startswith("MICRO_SERVICE_"):
            raise errors.BadRequest(_ID, f"env_vars: {name} is set by the platform")
        if "\0" in value:
            raise errors.BadRequest(_ID, f"env_vars: {name} has a NUL in its value")
    if any("\0" in text for text in (options.command, *options.args)):
        raise errors.BadRequest(_ID, "command, args: a NUL cannot be passed to a program")
    if taken := _OWN_NOTES & options.metadata.keys():
        raise errors.BadRequest(_ID, f"metadata: {min(taken)} is set by the platform")
    return options


class Deployments:
    """The records, kept in a store.

    Args:
        store: the platform's own; its table ``runtime`` is used.
    """

    def __init__(self, store: Store) -> None:
        self._table = store.table("runtime")

    async def all(self) -> list[Deployment]:
        """Every record, sorted by namespace and name.

        Raises:
            errors.BadRequest: one of them is damaged.
        """
        keys = await self._table.list("deployment/")
        found = [await self._table.get(key, Deployment) for key in keys]
        return [deployment for deployment in found if deployment]

    async def save(self, deployment: Deployment) -> None:
        """Write a record; it is durable on return."""
        key = _key(deployment.namespace, deployment.name)
        await self._table.set(key, deployment)

    async def remove(self, deployment: Deployment) -> None:
        """Forget a record."""
        await self._table.delete(_key(deployment.namespace, deployment.name))


def _key(namespace: str, name: str) -> str:
    return f"deployment/{namespace}/{name}"
