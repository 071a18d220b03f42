"""Profiles and settings of a whole server: what is left behind, and who sees a secret."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from microcosmos.server.engine import program as nats_program

from ..store.postgres import Postgres
from .live import Live, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Another = Callable[..., Live]

SECRET = "c2VjcmV0LXRoYXQtbm9ib2R5LWlzLXNob3duLTAxMjM="
PASSWORD = "hunter2hunter2"


def files(site: Live) -> set[str]:
    """What is on the disk of a home."""
    paths = [path for path in site.home.path.rglob("*") if path.is_file()]
    return {str(path.relative_to(site.home.path)) for path in paths}


def test_the_profile_test_leaves_nothing_and_takes_nothing(another: Another) -> None:
    site = another().start()
    site.micro("run", str(site.folder("stays", program("stays"))))
    assert site.stop() == 0
    before = files(site)
    site.env["MICRO_PROFILE"] = "test"
    site.start()
    assert site.micro("status").out == ""
    site.micro("run", str(site.folder("brief", program("brief"))))
    assert site.call("brief")["says"] == "one"
    assert files(site) - before == {"server/server.json"}
    assert site.stop() == 0
    assert files(site) == before


def test_what_a_killed_server_left_in_memory_is_gone_with_the_next(another: Another) -> None:
    site = another(env={"MICRO_PROFILE": "test"}).start()
    environ = psutil.Process(site.pid("core")).environ()
    state = Path(environ["MICRO_STATE"])
    assert state != site.home.path / "server"
    (state / "left").write_text("behind")
    site.kill()
    assert state.exists()
    site.start()
    assert not (state / "left").exists()
    assert site.stop() == 0
    assert not state.exists()


def test_settings_of_a_file_reach_the_processes(another: Another) -> None:
    site = another("--gateways=1")
    store = site.home.path / "records.db"
    (site.home.path / "micro.toml").write_text(
        f'[server]\ndurability = "process"\n\n[store]\nurl = "sqlite://{store}"\n'
    )
    site.start()
    site.micro("run", "helloworld")
    assert store.exists()
    assert not (site.home.server / "store.db").exists()
    assert "'2s'" in repr(json.loads((site.home.server / "nats" / "nats.conf").read_text()))


def test_secrets_are_in_no_command_line_and_no_file(another: Another) -> None:
    site = another(env={"MICRO_CONFIG_SECRET_KEY": SECRET})
    secret = site.work / "password"
    secret.write_text(PASSWORD)
    store = f"acme://ann:{PASSWORD}@host"
    flags = ["--api_address=127.0.0.1:0", "--proxy_address=127.0.0.1:0", "--gateways=1"]
    # A store that is none: the error is about it, and it is written into the log.
    said = site.refused(4, "server", "--detach", f"--store_url={store}", *flags)
    assert "acme://ann:[secret]@host" in said
    site.env["MICRO_ADMIN_PASSWORD"] = PASSWORD
    sqlite = f"sqlite://{site.home.path}/kept.db?password={PASSWORD}"
    site.micro("server", "--detach", f"--store_url={sqlite}", *flags)
    try:
        lines = [" ".join(psutil.Process(pid).cmdline()) for pid in site.info.pids.values() if pid]
        core = psutil.Process(site.pid("core")).environ()
        gateway = psutil.Process(site.pid("gateway-1")).environ()
        shown = site.micro("config", "show", "--origin", "--output=json").out
        listed = site.micro("nats").out
    finally:
        site.micro("stop")
    assert core["MICRO_ADMIN_PASSWORD"] == PASSWORD
    assert core["MICRO_CONFIG_SECRET_KEY"] == SECRET
    assert not {PASSWORD, SECRET} & set(gateway.values())
    assert gateway["MICRO_STORE_URL"] == ""
    logs = "".join(site.logs().values())
    info = [path.read_text() for path in site.home.path.glob("server/*.json")]
    for text in (*lines, shown, listed, logs, *info):
        assert PASSWORD not in text
        assert SECRET not in text
    assert shown.count("[secret]") == 2


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """An engine that somebody else runs, and the URL with its password."""
    folder.mkdir()
    words = [nats_program(), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder)]
    words += ["--user", "ann", "--pass", PASSWORD, "-js", "-sd", str(folder / "js")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        (ports,) = until(lambda: [*folder.glob("*.ports")])
        (url,) = until(lambda: ports.read_text() and json.loads(ports.read_text())["nats"])
        yield url.replace("nats://", f"nats://ann:{PASSWORD}@")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with contextlib.closing(Postgres()) as server:
        yield server


def test_a_cluster_is_an_engine_and_a_database_of_others(
    another: Another, postgres: Postgres, tmp_path: Path
) -> None:
    with nats_server(tmp_path / "nats") as url:
        postgres.run(f"CREATE ROLE micro LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        store = postgres.url(user="micro", password=PASSWORD)
        site = another()
        file = site.home.path / "micro.toml"
        file.write_text(
            f'[server]\nprofile = "cluster"\n\n[nats]\nurl = "{url}"\n\n[store]\nurl = "{store}"\n'
        )
        said = site.refused(64, "server")
        assert said.endswith(f" is secret, and others may read the file: chmod 600 {file}")
        file.chmod(0o600)
        site.start()
        assert "nats" not in site.info.pids
        site.micro("run", "helloworld")
        assert site.call("helloworld", "--name=John") == {"msg": "Hello John"}
        assert site.web.get("/helloworld?name=Jo").json() == {"msg": "Hello Jo"}
        # Its password is nobody's business.
        assert PASSWORD not in site.web.get("/registry/getService?service=helloworld").text
        assert PASSWORD not in site.micro("nats").out
        assert PASSWORD not in "".join(site.logs().values())
        assert not list(site.home.server.glob("*.db"))
        site.kill()
        site.start()
        assert [row["name"] for row in site.micro("status", "--output=json").json] == ["helloworld"]
        assert site.stop() == 0
