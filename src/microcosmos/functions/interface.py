"""What a function is: what is deployed, its versions, what runs of it, and the verbs for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from microcosmos.monitor.ledger import Counts as Counts
from microcosmos.monitor.ledger.wire import By, Consumption

API_VERSION = "1.0.0"
"""What functions see, as a semantic version; a version keeps that of the day of its deploy."""

Language = Literal["javascript", "typescript", "python"]
Form = Literal["script", "handler", "module"]
Engine = Literal["quickjs", "deno", "monty"]
Isolation = Literal["isolate", "process", "wasm"]

MAX_SOURCE = 4 * 1024 * 1024
"""The most bytes of a function's files together."""

MAX_FILES = 500
"""The most files of a function."""

MAX_ENV = 128
"""The most variables and secrets of a function, each."""

MAX_VALUE = 5 * 1024
"""The most bytes of the value of a variable or secret."""

MAX_ROUTES = 50
"""The most routes of a function."""

MAX_MESSAGE = 2000
"""The most characters of the message of a deploy."""

GRANTS = ("store", "config", "events", "broker", "call", "secret")
"""What a function may be granted; ``call:users`` and ``call:users.read`` narrow one of them, and
``secret:NAME`` lets its code read one secret, of which it sees a placeholder otherwise."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one request of a function may use.

    Attributes:
        cpu: seconds of the processor at a stretch, between two waits.
        wall: seconds until the answer has begun.
        heap: bytes of the engine's heap.
        stack: bytes of the engine's stack.
        request: bytes of a request's body that is read whole.
        response: bytes of an answer that is not streamed.
        logs: bytes that one request may write to the log; what is more is dropped, and said so.
        fetches: sub-requests, bindings included.
        at_once: sub-requests of one request that are under way; further ones wait.
        concurrency: requests of one function under way in one worker.
        code: bytes of the program.
    """

    cpu: float = 0.05
    wall: float = 30.0
    heap: int = 64 * 1024 * 1024
    stack: int = 512 * 1024
    request: int = 8 * 1024 * 1024
    response: int = 8 * 1024 * 1024
    logs: int = 256 * 1024
    fetches: int = 50
    at_once: int = 6
    concurrency: int = 1000
    code: int = 4 * 1024 * 1024


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A world that is the same again: each request sees it from its beginning.

    Attributes:
        seed: of all randomness.
        clock: milliseconds since the epoch, at which a request begins.
        step: milliseconds that the clock goes on whenever it is looked at; with 0 it stands still.
    """

    seed: str = ""
    clock: float = 0.0
    step: float = 0.0


class SecretUse(msgspec.Struct, frozen=True):
    """Where the placeholder of a secret is filled in, and nowhere else.

    Attributes:
        host: as of `Draft.hosts`.
        header: of the sub-request, in small letters.
    """

    host: str
    header: str = "authorization"


class Draft(msgspec.Struct, kw_only=True):
    """A function as it is to be deployed.

    Attributes:
        name: of the function, and of the family of paths that it owns.
        files: texts by path, ``/`` between folders.
        main: the file that begins; unless said the only one, or ``index``, ``main`` or the name
            of the function, with any suffix.
        language: unless said that of the main file's suffix.
        engine: unless said that of its form.
        message: what has changed, for people.
        env: variables.
        secrets: values by name; None takes the one that is kept already.
        hosts: that it may fetch from, ``example.org``, ``*.example.org``, ``127.0.0.1:8000``; none
            are all of the public internet.
        routes: paths below its family, ``/users/{id}``; none are all.
        grants: of `GRANTS`.
        on: what else it is run by, ``events:orders`` or ``cron:*/5 * * * *``.
        isolation: ``isolate`` unless said, ``process`` or ``wasm``.
        limits: by the names of `Limits`; what is not said is the account's.
        secret_uses: where placeholders of secrets are filled in, by the names of secrets.
    """

    name: str
    files: dict[str, str]
    main: str = ""
    language: str = ""
    engine: str = ""
    message: str = ""
    env: dict[str, str] = {}
    secrets: dict[str, str | None] = {}
    hosts: list[str] = []
    routes: list[str] = []
    grants: list[str] = []
    on: list[str] = []
    isolation: str = ""
    limits: dict[str, float] = {}
    secret_uses: dict[str, list[SecretUse]] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong in a source. Lines and columns count from 1; 0 is not known."""

    file: str
    line: int = 0
    column: int = 0
    message: str


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of a function.

    Attributes:
        number: 1 is the first; shown as ``v1``.
        hash: SHA-256 of the version's canonical CBOR, in hexadecimal.
        parent: the hash of the version before, empty of the first.
        language: of the main file.
        form: how it answers.
        engine: what runs it.
        api_version: as of `API_VERSION`.
        main: the file that begins.
        files: SHA-256 of each, by path.
        env: names of variables.
        secrets: names of secrets.
        hosts: as of `Draft`.
        routes: as of `Draft`.
        grants: as of `Draft`.
        on: as of `Draft`.
        author: the id of the account that deployed it.
        message: what has changed.
        date: when, RFC 3339 in UTC with microseconds.
        code: SHA-256 of the program that runs: of the main file, or what the files were linked to.
        values: salted SHA-256 of the values of its variables.
        isolation: as of `Draft`.
        limits: as of `Draft`.
        secret_uses: as of `Draft`.
    """

    number: int
    hash: str
    parent: str
    language: Language
    form: Form
    engine: Engine
    api_version: str
    main: str
    files: dict[str, str]
    env: list[str]
    secrets: list[str]
    hosts: list[str]
    routes: list[str]
    grants: list[str]
    on: list[str]
    author: str
    message: str
    date: str
    code: str = ""
    values: str = ""
    isolation: Isolation = "isolate"
    limits: dict[str, float] = {}
    secret_uses: dict[str, list[SecretUse]] = {}


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A version that requests go to.

    Attributes:
        number: which.
        key: names what runs: the version and the values that it runs with. What has another key
            is loaded anew.
        engine: what runs it.
        weight: its part of all requests, in hundredths.
        routes: as of `Draft`.
        on: as of `Draft`.
        wall: seconds that a request may take.
    """

    number: int
    key: str
    engine: Engine
    weight: int = 100
    routes: list[str] = []
    on: list[str] = []
    wall: float = 30.0


class Spent(msgspec.Struct, frozen=True):
    """A quota that is used up.

    Attributes:
        until: seconds since the epoch, when it begins anew.
        detail: for whoever is refused.
    """

    until: float
    detail: str


class Exhausted(msgspec.Struct, frozen=True, kw_only=True):
    """Whose quota is used up: a function's, an account's, or else a namespace's.

    Attributes:
        namespace: where.
        name: of the function; empty of the others.
        account: whose functions it is; empty of the others.
        spent: until when, and why.
    """

    namespace: str
    name: str = ""
    account: str = ""
    spent: Spent


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A function as those know it who run it.

    Attributes:
        namespace: where it lives.
        name: of the function.
        owner: the id of the account that it belongs to.
        shares: the versions that requests go to, the newest first.
        spent: why its requests are refused for now, and until when; None if they are not.
    """

    namespace: str
    name: str
    owner: str
    shares: list[Share]
    spent: Spent | None = None


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What has changed among the functions that run.

    Attributes:
        epoch: of the core that tells.
        sequence: of the last change that this tells; ask for those after it.
        fresh: whether what was known before is to be forgotten.
        more: whether what belongs to this follows at once.
        live: functions that are new or different.
        gone: namespace and name of those that are no more.
        spent: all quotas that are used up, of all functions; None if they are what they were.
    """

    epoch: str
    sequence: int
    fresh: bool = False
    more: bool = False
    live: list[Live] = []
    gone: list[tuple[str, str]] = []
    spent: list[Exhausted] | None = None


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker needs to run a version; holds secrets, and is never written or logged.

    Attributes:
        namespace: where the function lives.
        name: of the function.
        number: of the version.
        key: as of `Share`.
        owner: the id of the account that it belongs to.
        language: of the code.
        form: how it answers.
        engine: what runs it.
        main: the name of the file that began, for traces.
        code: the whole program, in one file.
        env: variables by name, and secrets: those that its code may read by their values, all
            others by their placeholders.
        hosts: as of `Draft`.
        grants: as of `Draft`.
        limits: what a request may use.
        isolation: as of `Draft`.
        placeholders: names of secrets by their placeholders.
        secret_uses: as of `Draft`.
        replay: what its requests see in place of the clock and of randomness.
        strikes: how often it has been ended of late for holding up a worker, or being its death;
            with one it runs in a process of its own.
    """

    namespace: str
    name: str
    number: int
    key: str
    owner: str
    language: Language
    form: Form
    engine: Engine
    main: str
    code: str
    env: dict[str, str] = {}
    hosts: list[str] = []
    grants: list[str] = []
    limits: Limits = Limits()
    isolation: Isolation = "isolate"
    placeholders: dict[str, str] = {}
    secret_uses: dict[str, list[SecretUse]] = {}
    replay: Replay | None = None
    strikes: int = 0

    @property
    def runner(self) -> str:
        """The kind of worker that it runs in: that of its engine, or ``wasm``."""
        return "wasm" if self.isolation == "wasm" else self.engine


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of a version that has misbehaved.

    Attributes:
        state: ``quarantined``, in a process of its own; or ``refused``, not run until later.
        strikes: how often.
        reason: of the last one, for people.
        since: of the first one, RFC 3339.
        until: when it is forgotten or run again, RFC 3339.
    """

    state: Literal["quarantined", "refused"]
    strikes: int
    reason: str
    since: str
    until: str


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function as people look at it.

    Attributes:
        name: of the function.
        owner: the id of the account that it belongs to.
        version: the newest that gets requests.
        shares: hundredths of all requests, by the number of a version.
        created: when its first version was deployed, RFC 3339.
        updated: when that was last changed.
        url: the path of its family on the gateway.
        secrets: names of those that are kept.
        limits: what a request of `version` may use.
        states: of versions that have misbehaved, by ``v1``.
    """

    name: str
    owner: str
    version: Version
    shares: dict[str, int]
    created: str
    updated: str
    url: str
    secrets: list[str] = []
    limits: Limits = Limits()
    states: dict[str, State] = {}


class Functions(Protocol):
    """The control plane.

    Every verb raises `errors.NotFound` for a function that there is not, and `errors.Forbidden`
    for one that belongs to somebody else, unless an admin asks.
    """

    async def validate(self, draft: Draft) -> Sequence[Finding]:
        """What keeps a draft from being deployed; nothing is stored.

        Raises:
            errors.BadRequest: something else than its sources is wrong.
            errors.Conflict: the name or a route belongs to somebody else.
        """

    async def deploy(self, draft: Draft) -> Version:
        """Make a version and let it have all requests; returns when it is kept durably.

        Raises:
            errors.BadRequest: as of `validate`; the detail begins with ``file:line:column: ``.
            errors.Conflict: the name or a route belongs to somebody else, or another deploy of
                the function was quicker.
        """

    async def list(self) -> Sequence[Function]:
        """All functions of the namespace, by name."""

    async def get(self, name: str) -> Function:
        """One function."""

    async def history(self, name: str) -> Sequence[Version]:
        """Its versions, the newest first."""

    async def sources(self, name: str, number: int = 0) -> Mapping[str, str]:
        """The files of a version, by path; 0 is the newest that gets requests."""

    async def rollback(self, name: str, number: int = 0) -> Version:
        """Deploy an old version once more: a new version, whose files are those of the old one.

        Args:
            name: of the function.
            number: the old one; 0 is the one before the newest that gets requests.

        Raises:
            errors.Conflict: a secret that it needs is gone.
        """

    async def split(self, name: str, shares: Mapping[int, int]) -> Function:
        """Divide requests among versions, hundredths by number; 100 in all."""

    async def delete(self, name: str) -> None:
        """Delete a function with its history, secrets and counts."""

    async def verify(self, name: str) -> Sequence[str]:
        """What is wrong with the chain of versions; nothing is as it should be."""

    async def consumption(self, name: str = "", *, since: str = "", by: By = "") -> Consumption:
        """What it has used; without a name all that one may look at.

        Args:
            name: of the function.
            since: from when on, ``24h``, ``2026-11-01``; empty is ever.
            by: what its rows are: ``version``, ``hour``, ``day``, and without a name ``account`` or
                ``namespace``; unless said functions.

        Raises:
            errors.BadRequest: that is no question.
        """

    async def forget_secret(self, name: str, secret: str) -> None:
        """Remove a secret; versions that need it cannot be run any more."""

    def logs(self, name: str, *, lines: int = 100, follow: bool = False) -> AsyncIterator[str]:
        """The last lines of its log, and those that come."""
