"""What a server can be told: the same struct is its options, its variables and its micro.toml."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from microcosmos.base import codec, errors, profiles, urls
from microcosmos.base.home import Home

from .settings_file import SettingsFile, dotted

_PREFIX = "MICRO_"


def _gateways() -> int:
    return min(2, os.cpu_count() or 1)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `micro server`; ``api_address`` is ``--api_address`` and `MICRO_API_ADDRESS`.

    Attributes:
        home: where the state is kept; empty is ``~/.micro``.
        config_file: what else to read settings from; empty is ``micro.toml`` in the home, if it
            is there.
        profile: which backends; empty is ``local``.
        api_address: the HTTP gateway. Port 0 takes a free one, here and below.
        proxy_address: the gRPC proxy.
        proxy_tls_cert_file: PEM: the proxy's certificate; with one it answers by TLS alone.
        proxy_tls_key_file: PEM: its private key.
        proxy_tls_client_ca_file: PEM: who signs the certificates that clients must show.
        web_address: the dashboard.
        nats_address: the bundled engine; empty is a free port that is kept over restarts.
        nats_url: the engine: ``nats://bundled``, ``memory://`` for none, or one that somebody
            else runs; empty is the profile's, here and below.
        nats_creds: the credentials file for an engine that somebody else runs.
        store_url: where records are kept: what `open_store` takes, with ``{home}`` for the folder
            of the server's state.
        runtime_url: what services run as.
        durability: what an acknowledged event survives: ``power`` loss, or the end of a
            ``process`` only, which is faster.
        gateways: how many gateway processes.
        api_tls_cert_file: the certificate of the HTTP gateway, in PEM; it speaks TLS then.
        api_tls_key_file: the key of that certificate.
        api_tls_client_ca_file: who may have signed the certificates that clients must show.
        api_http2: whether the HTTP gateway speaks HTTP/2: with ``tls``, where clients choose it
            in the handshake; ``always``, without TLS by prior knowledge too; or ``never``.
            ``auto`` is ``always`` where only this machine can reach it, else ``tls``.
        api_access_log: whether a line is written for each request, and in which form.
        api_access_log_file: where; empty is ``access.log`` beside the other logs.
        api_allowed_origins: whose pages may open WebSockets, beside the gateway's own; by commas,
            ``*`` is any.
        api_config: the gateway's policies, if not ``gateway.toml`` in the home.
        config_secret_key: what secrets of the config are encrypted with: 32 bytes in base64;
            empty is the key that the home keeps.
        allow_missing_walls: which walls of functions this machine may lack, by commas; see
            `functions.walls`.
        admin_password: of the account ``admin``, set at the first start.
        admin_password_file: a file that holds that password.
    """

    home: str = ""
    config_file: str = ""
    profile: str = ""
    api_address: str = "127.0.0.1:8080"
    proxy_address: str = "127.0.0.1:8081"
    proxy_tls_cert_file: str = ""
    proxy_tls_key_file: str = ""
    proxy_tls_client_ca_file: str = ""
    web_address: str = "127.0.0.1:8082"
    nats_address: str = ""
    nats_url: str = ""
    nats_creds: str = ""
    store_url: str = ""
    runtime_url: str = ""
    durability: Literal["power", "process"] = "power"
    gateways: Annotated[int, msgspec.Meta(ge=1, le=256)] = msgspec.field(default_factory=_gateways)
    api_tls_cert_file: str = ""
    api_tls_key_file: str = ""
    api_tls_client_ca_file: str = ""
    api_http2: Literal["auto", "tls", "always", "never"] = "auto"
    api_access_log: Literal["off", "json", "common"] = "off"
    api_access_log_file: str = ""
    api_allowed_origins: str = ""
    api_config: str = ""
    config_secret_key: str = ""
    allow_missing_walls: str = ""
    admin_password: str = ""
    admin_password_file: str = ""

    def __repr__(self) -> str:
        return "<settings>"  # some are secret, and logs quote what they are given


NAMES = Settings.__struct_fields__
"""Every setting."""

SECRETS = frozenset({"config_secret_key", "admin_password"})
"""Settings that nobody is shown."""

URLS = frozenset({"nats_url", "store_url", "runtime_url"})
"""Settings that may have a secret in them."""

NO_FLAG = frozenset({"admin_password"})
"""What no command line takes: every process of the machine could read it there."""

_CORE = ("store_url", "runtime_url", *sorted(SECRETS), "admin_password_file")
_UNSAID = (None, "")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's value, and who said so.

    Attributes:
        name: as in `Settings`.
        value: what holds.
        origin: ``default``, ``profile NAME``, a path with its line, a variable or a flag.
    """

    name: str
    value: Any
    origin: str

    @property
    def path(self) -> str:
        """Its name in micro.toml: ``api.address``."""
        return dotted(self.name)

    @property
    def shown(self) -> Any:
        """Its value without what is secret."""
        if self.name in SECRETS:
            return urls.SECRET if self.value else self.value
        return urls.masked(self.value) if self.name in URLS else self.value


def load(environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """The settings that hold: flags over variables over micro.toml over the profile's.

    None and "" count as unsaid.

    Raises:
        errors.BadRequest: a value is wrong; the detail names the flag and the variable, or the
            file, the line and the key.
    """
    return Settings(**{one.name: one.value for one in resolve(environ, **flags)})


def resolve(environ: Mapping[str, str] | None = None, **flags: Any) -> list[Setting]:
    """Every setting with its origin; see `load`."""
    environ = os.environ if environ is None else environ
    said = {one.name: one for one in _said(environ, flags)}
    home = Home((said["home"].value if "home" in said else "") or _home(environ))
    chosen = said.get("config_file")
    file = SettingsFile(home, chosen.value if chosen else "")
    if not chosen and file.there:
        said["config_file"] = Setting("config_file", str(file.path), "default")
    for name, value, where in file.read(NAMES, SECRETS, URLS):
        origin = where.rpartition(": ")[0]
        said.setdefault(name, Setting(name, _checked(name, value, where, strict=True), origin))
    profile = profiles.load(said["profile"].value if "profile" in said else profiles.LOCAL.name)
    for name, value in backends(profile).items():
        said.setdefault(name, Setting(name, value, f"profile {profile.name}"))
    said.setdefault("profile", Setting("profile", profile.name, "default"))
    said.setdefault("home", Setting("home", str(home.path), "default"))
    unsaid = Settings()
    return [said.get(name) or Setting(name, getattr(unsaid, name), "default") for name in NAMES]


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("MICRO_HOME", "")


def _said(environ: Mapping[str, str], flags: Mapping[str, Any]) -> Iterator[Setting]:
    """What flags, else variables say."""
    for name in NAMES:
        variable = variable_of(name)
        places = ((f"--{name}", flags.get(name)), (variable, environ.get(variable)))
        for origin, value in places:
            if value not in _UNSAID:
                where = f"--{name} ({variable})"
                yield Setting(name, _checked(name, value, where, strict=False), origin)
                break


def variable_of(name: str) -> str:
    """The variable of a setting."""
    return _PREFIX + name.upper()


def backends(profile: profiles.Profile) -> dict[str, str]:
    """The settings that a profile is a table of."""
    return {
        "nats_url": profile.nats,
        "store_url": profile.store,
        "runtime_url": profile.runtime,
    }


def completed(settings: Settings, profile: profiles.Profile) -> Settings:
    """Settings with a backend for everything, where none was said the profile's.

    Raises:
        errors.BadRequest: one has to be said and was not.
        errors.Unimplemented: one is not there yet.
    """
    table = backends(profile)
    missing = {name: url for name, url in table.items() if not getattr(settings, name)}
    whole = msgspec.structs.replace(settings, profile=profile.name, **missing)
    if whole.runtime_url == profiles.PODS:
        raise errors.Unimplemented(
            "server.settings",
            "pods as the runtime are not there yet: everything else of this profile starts with "
            f"{variable_of('runtime_url')}={profiles.PROCESSES}, which runs services as processes "
            "of this host",
        )
    if whole.runtime_url != profiles.PROCESSES:
        raise errors.BadRequest(
            "server.settings",
            f"runtime_url: {urls.masked(whole.runtime_url)!r} is no runtime; known are: "
            f"{profiles.PROCESSES}, {profiles.PODS}",
        )
    for name, example in (("nats_url", "nats://host:4222"), ("store_url", "postgres://host/name")):
        if not getattr(whole, name):
            raise errors.BadRequest(
                "server.settings",
                f"the profile {profile.name} needs to be told its {name}: set "
                f"{variable_of(name)}={example}, or {dotted(name)} in micro.toml",
            )
    return whole


def environment(settings: Settings, user: str) -> dict[str, str]:
    """The variables by which a process of the platform learns its settings.

    What only the core needs, secrets among it, is empty for everybody else.
    """
    return {
        variable_of(name): str(getattr(settings, name)) if user == "core" else "" for name in _CORE
    }


def _checked(name: str, value: Any, where: str, *, strict: bool) -> Any:
    try:
        settings = msgspec.convert({name: value}, Settings, strict=strict)
    except msgspec.ValidationError as exc:
        problem = msgspec.ValidationError(str(exc).partition(" - at `$.")[0])
        detail = codec.bad_input("server", problem).detail
        if choices := _choices(name):
            detail += f"; it is one of {', '.join(choices)}"
        raise errors.BadRequest("server.settings", f"{where}: {detail}") from None
    return getattr(settings, name)


def _choices(name: str) -> tuple[str, ...]:
    kind = get_type_hints(Settings)[name]
    return get_args(kind) if get_origin(kind) is Literal else ()
