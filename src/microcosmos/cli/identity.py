"""Who a command line is: the login that its calls carry."""

from __future__ import annotations

from collections.abc import Callable

from microcosmos.auth.logins import LOCAL, LOG_IN, Ask, Login, Logins, current, drive
from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import Home

from .environments import Environment

_AUTH = "auth"
_TOKEN = "the token "
_REFUSED = "Unauthorized call made to"
_FORBIDDEN = "Forbidden call made to"


def key_of(environment: Environment) -> str:
    """Under which name the logins of an environment are kept."""
    return LOCAL if environment.local else environment.address


class Identity:
    """The login by which calls of one environment are made.

    Args:
        home: where logins are kept, and whose server ``local`` is.
        environment: where the calls go.
        namespace: the namespace they are made in.
    """

    def __init__(self, home: Home, environment: Environment, namespace: str) -> None:
        self._home = home
        self._environment = environment
        self._namespace = namespace

    @property
    def logins(self) -> Logins:
        """The file that they are kept in."""
        return Logins(self._home.path / "tokens")

    def login(self, ask: Callable[[Ask], bytes], refused: str = "") -> Login | None:
        """The login, renewed if it is about to end; None is nobody.

        Args:
            ask: makes a call of ``auth`` without a token.
            refused: an access token that the server has refused, so that another is wanted.

        Raises:
            errors.Unauthorized: the login has ended.
            errors.Error: the file is damaged, or the server could not be asked.
        """
        steps = current(
            self.logins,
            key_of(self._environment),
            self._namespace,
            start=self._start(),
            refused=refused,
        )
        return drive(steps, ask)

    def _start(self) -> float:
        info = self._home.server_info() if self._environment.local else None
        return info.started if info else 0.0

    def refused(self, error: errors.Error, login: Login | None) -> errors.Error:
        """The error of a call that was refused, with what to do about it."""
        away = login is not None and login.namespace != self._namespace
        if isinstance(error, errors.Forbidden):
            if login is None or not away or not error.detail.startswith(_FORBIDDEN):
                return error
            detail = f"{error.detail}; {login.account} is of the namespace {login.namespace}"
            return errors.Forbidden(error.id, detail)
        if not (bad_token(error) or error.detail.startswith(_REFUSED)):
            return error
        # What the server advises is for programs.
        return errors.Unauthorized(
            error.id, f"{error.detail.partition(';')[0]}; {self._hint(away)}"
        )

    def _hint(self, away: bool) -> str:
        if away or self._namespace != DEFAULT_NAMESPACE:
            return f"log in with `micro --namespace {self._namespace} login`"
        return LOG_IN


def bad_token(error: errors.Error) -> bool:
    """Whether the platform refused a token, so that another one may be taken.

    A service may pass on what others refused it; then the call was made, and is not made again.
    """
    return error.id == _AUTH and error.detail.startswith(_TOKEN)
