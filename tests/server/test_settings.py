"""Settings: their places, which of them wins, what is refused, and what nobody is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors, profiles
from microcosmos.base.home import Home
from microcosmos.server.settings import (
    NAMES,
    NO_FLAG,
    Setting,
    Settings,
    completed,
    environment,
    load,
    resolve,
)
from microcosmos.server.settings_file import LARGEST, SettingsFile, dotted, place


@pytest.fixture
def environ(home: Home) -> dict[str, str]:
    """The variables of somebody who has only said where the home is."""
    return {"MICRO_HOME": str(home.path)}


def write(home: Home, text: str, mode: int = 0o600) -> Path:
    path = home.path / "micro.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def origins(environ: dict[str, str], **flags: Any) -> dict[str, Setting]:
    return {one.name: one for one in resolve(environ, **flags)}


def refused(home: Home, environ: dict[str, str], text: str) -> str:
    """The error of a micro.toml, without its path."""
    path = write(home, text)
    with pytest.raises(errors.BadRequest) as caught:
        load(environ)
    detail = caught.value.detail
    assert "\n" not in detail
    assert detail.startswith(str(path))
    return detail.removeprefix(str(path))


def test_every_setting_has_one_place() -> None:
    places = {name: place(name) for name in NAMES}
    assert len(set(places.values())) == len(places)
    assert places["api_address"] == ("api", "address")
    assert places["api_config"] == ("api", "config")
    assert places["store_url"] == ("store", "url")
    assert places["config_secret_key"] == ("config", "secret_key")
    assert places["admin_password"] == ("auth", "admin_password")
    assert places["gateways"] == ("server", "gateways")
    assert (dotted("home"), dotted("nats_url")) == ("home", "nats.url")


def test_each_place_wins_over_those_before_it(home: Home, environ: dict[str, str]) -> None:
    def store() -> tuple[Any, str]:
        one = origins(environ, **flags)["store_url"]
        return one.value, one.origin

    flags: dict[str, str] = {}
    assert store() == ("sqlite:///{home}/store.db", "profile local")
    path = write(home, '[server]\nprofile = "test"\n')
    assert store() == ("memory://", "profile test")
    assert origins(environ)["profile"].origin == f"{path}:2"
    path = write(home, '[server]\nprofile = "test"\n\n[store]\nurl = "acme://file"\n')
    assert store() == ("acme://file", f"{path}:5")
    environ["MICRO_STORE_URL"] = "acme://variable"
    assert store() == ("acme://variable", "MICRO_STORE_URL")
    flags["store_url"] = "acme://flag"
    assert store() == ("acme://flag", "--store_url")
    assert origins(environ)["durability"] == Setting("durability", "power", "default")


def test_what_is_empty_is_unsaid(home: Home, environ: dict[str, str]) -> None:
    write(home, '[api]\naddress = "127.0.0.1:1"\nhttp2 = ""\n')
    settings = load({**environ, "MICRO_API_ADDRESS": ""}, api_address=None)
    assert (settings.api_address, settings.api_http2) == ("127.0.0.1:1", "auto")


def test_another_file_is_read_in_place_of_the_homes(
    home: Home, environ: dict[str, str], tmp_path: Path
) -> None:
    write(home, "[server]\ngateways = 3\n")
    other = tmp_path / "other.toml"
    other.write_text('[api]\naddress = "127.0.0.1:1"\n')
    environ["MICRO_CONFIG_FILE"] = str(other)
    found = origins(environ)
    assert found["api_address"].origin == f"{other}:2"
    assert found["gateways"].origin == "default"
    assert found["config_file"] == Setting("config_file", str(other), "MICRO_CONFIG_FILE")
    missing = tmp_path / "missing.toml"
    with pytest.raises(errors.BadRequest, match=r"missing\.toml cannot be read: No such file"):
        load(environ, config_file=str(missing))


def test_paths_in_a_file_are_meant_from_its_folder(home: Home, environ: dict[str, str]) -> None:
    write(
        home,
        '[api]\ntls_cert_file = "tls/cert.pem"\ntls_key_file = "~/key.pem"\n'
        'config = "/etc/gateway.toml"\n[nats]\ncreds = "nats.creds"\n',
    )
    settings = load(environ)
    assert settings.api_tls_cert_file == str(home.path / "tls/cert.pem")
    assert settings.api_tls_key_file == str(Path.home() / "key.pem")
    assert settings.api_config == "/etc/gateway.toml"
    assert settings.nats_creds == str(home.path / "nats.creds")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[api]\nadress = 1", ":2: api.adress is not known; did you mean address?"),
        ("[sever]\ngateways = 1", ":1: sever is no section; did you mean [server]?"),
        ('profile = "x"', ":1: profile is not known here; it is profile in [server]"),
        ('api_address = "x"', ":1: api_address is not known here; it is address in [api]"),
        ("[server]\nurl = 1", ":2: server.url is not known; url is in [nats], [runtime], [store]"),
        ("[web]\nport = 1", ":2: web.port is not known; [web] has: address"),
        ('[server]\nhome = "x"', ":2: server.home cannot be said here; use --home or --config"),
        ('home = "x"', ":1: home cannot be said here; use --home or --config"),
        ("api = 1", ":1: api is a section, [api]"),
        ("\n[server]\ngateways = '2'", ":3: server.gateways: expected `int`, got `str`"),
        ("[server]\ngateways = true", ":2: server.gateways: expected `int`, got `bool`"),
        ("[server]\ngateways = 0", ":2: server.gateways: expected `int` >= 1"),
        ("[store]\nurl = 3", ":2: store.url: expected `str`, got `int`"),
        ("api.gateways = 1", ":1: api.gateways is not known; gateways is in [server]"),
        ("server . gateways = 'x'", ":1: server.gateways: expected `int`, got `str`"),
        ("[api]\nhttp2 = 'no'", "it is one of auto, tls, always, never"),
        ("[[limits]]\npath = '/'", "is said in gateway.toml"),
        ("[api.tls]\ncert_file = 'x'", ":1: api.tls is not known; [api] has: "),
        ("[api\n", ": expected ']' at the end of a table declaration (at line 1, column 5)"),
        ("[api]\naddress=1\naddress=2", ": cannot overwrite a value (at "),
        ("a = " + "[" * 5000, " is nested too deeply"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_the_way_out(
    home: Home, environ: dict[str, str], text: str, said: str
) -> None:
    assert said in refused(home, environ, text)


def test_files_that_are_none_are_refused(home: Home, environ: dict[str, str]) -> None:
    path = home.path / "micro.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(errors.BadRequest, match=r"micro\.toml is not valid UTF-8$"):
        load(environ)
    path.write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(errors.BadRequest, match=r"micro\.toml has more than 1048576 bytes$"):
        load(environ)
    path.unlink()
    path.mkdir()
    with pytest.raises(errors.BadRequest, match=r"micro\.toml cannot be read: Is a directory$"):
        load(environ)


@pytest.mark.parametrize(
    "text",
    [
        '[config]\nsecret_key = "c2VjcmV0"',
        '[auth]\nadmin_password = "pw"',
        '[store]\nurl = "postgres://ann:pw@db/x"',
        '[nats]\nurl = "nats://token@host"',
    ],
)
def test_a_file_with_a_secret_is_for_its_owner_alone(
    home: Home, environ: dict[str, str], text: str
) -> None:
    path = write(home, text, 0o640)
    with pytest.raises(errors.BadRequest) as caught:
        load(environ)
    said = caught.value.detail
    assert said.endswith(f" is secret, and others may read the file: chmod 600 {path}")
    assert "pw" not in said
    path.chmod(0o600)
    load(environ)


def test_a_file_without_a_secret_may_be_read_by_all(home: Home, environ: dict[str, str]) -> None:
    write(home, '[store]\nurl = "postgres://ann@db/x"\n', 0o644)
    assert load(environ).store_url == "postgres://ann@db/x"


def test_secrets_are_not_shown(home: Home, environ: dict[str, str]) -> None:
    environ |= {
        "MICRO_CONFIG_SECRET_KEY": "pw",
        "MICRO_ADMIN_PASSWORD": "pw",
        "MICRO_STORE_URL": "postgres://ann:pw@db/x",
        "MICRO_NATS_URL": "nats://pw@host",
    }
    settings = load(environ)
    shown = {one.name: one.shown for one in resolve(environ)}
    assert (settings.config_secret_key, settings.admin_password) == ("pw", "pw")
    assert shown["config_secret_key"] == shown["admin_password"] == "[secret]"
    assert shown["store_url"] == "postgres://ann:[secret]@db/x"
    assert shown["nats_url"] == "nats://[secret]@host"
    assert "pw" not in f"{settings!r} {settings}"


def test_only_the_core_is_told_what_is_secret(environ: dict[str, str]) -> None:
    settings = load({**environ, "MICRO_ADMIN_PASSWORD": "pw", "MICRO_STORE_URL": "acme://x"})
    told = environment(settings, "core")
    assert (told["MICRO_ADMIN_PASSWORD"], told["MICRO_STORE_URL"]) == ("pw", "acme://x")
    assert set(environment(settings, "gateway")) == set(told)
    assert not any(environment(settings, "gateway").values())


def test_a_password_is_no_flag() -> None:
    from microcosmos.server.cli import server

    flags = {name for param in server.params for name in (param.name,)}
    assert set(NAMES) - flags == {"home", *NO_FLAG}


# What a profile leaves open.


def test_a_cluster_is_told_where_its_engine_and_store_are() -> None:
    with pytest.raises(errors.BadRequest) as caught:
        completed(Settings(), profiles.CLUSTER)
    assert caught.value.detail == (
        "the profile cluster needs to be told its nats_url: set MICRO_NATS_URL=nats://host:4222, "
        "or nats.url in micro.toml"
    )
    with pytest.raises(errors.BadRequest, match="MICRO_STORE_URL=postgres://host/name"):
        completed(Settings(nats_url="nats://host"), profiles.CLUSTER)
    whole = completed(Settings(nats_url="nats://host", store_url="acme://x"), profiles.CLUSTER)
    assert (whole.profile, whole.runtime_url) == ("cluster", "processes://")


def test_pods_are_not_there_yet_and_the_way_out_is_told() -> None:
    told = {"nats_url": "nats://host", "store_url": "acme://x"}
    with pytest.raises(errors.Unimplemented, match="MICRO_RUNTIME_URL=processes://"):
        completed(Settings(**told), profiles.KUBERNETES)  # type: ignore[arg-type]
    whole = completed(Settings(runtime_url="processes://", **told), profiles.KUBERNETES)  # type: ignore[arg-type]
    assert whole.profile == "kubernetes"
    with pytest.raises(errors.BadRequest, match=r"'x://a:\[secret\]@b' is no runtime; known are:"):
        completed(Settings(runtime_url="x://a:pw@b"), profiles.LOCAL)


def test_the_file_of_a_home_may_be_missing(home: Home) -> None:
    assert list(SettingsFile(home).read(NAMES, (), ())) == []


def test_the_variables_of_this_process_are_taken_unless_others_are_given(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MICRO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MICRO_HOME", str(home.path))
    monkeypatch.setenv("MICRO_GATEWAYS", "7")
    assert load().gateways == 7
