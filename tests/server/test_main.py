"""A whole server, as a user starts and stops it."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import psutil
import pytest

from microcosmos.base.home import ServerInfo

pytestmark = pytest.mark.e2e


def ask(address: str) -> int:
    """What PID the gateway answers with."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as line:
        return int(line.makefile().read())


def children(info: ServerInfo) -> list[int]:
    return [pid for name, pid in info.pids.items() if name != "server"]


def test_a_server_answers_and_tells_where_it_is(server: Any) -> None:
    process = server.ready()
    info = server.info()
    assert info.pids["server"] == process.pid
    assert set(info.pids) == {
        *("server", "nats", "core", "zygote", "egress", "functions", "gateway-1")
    }
    assert set(info.addresses) == {"api", "proxy", "web", "nats"}
    assert ask(info.addresses["api"]) == info.pids["gateway-1"]


def test_the_supervisor_has_no_threads(server: Any, kit: Any) -> None:
    # A fork with Python code after it is safe in a process of one thread only.
    process = server.ready()
    kit.until(lambda: server.pid_of("replica"))
    assert psutil.Process(process.pid).num_threads() == 1


def test_it_says_one_line_per_address(server: Any) -> None:
    process = server.ready()
    addresses = server.info().addresses
    process.send_signal(signal.SIGTERM)
    _, said = server.ended(process)
    assert said.splitlines() == [
        f"api   http://{addresses['api']}",
        f"proxy grpc://{addresses['proxy']}",
        f"nats  nats://{addresses['nats']}",
        "warn  admin has the default password; change it: micro user set password",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_from_the_door_to_the_engine(
    server: Any, kit: Any, number: signal.Signals
) -> None:
    process = server.ready()
    kit.until(lambda: server.pid_of("replica"))
    pids = children(server.info())
    process.send_signal(number)
    code, _ = server.ended(process)
    assert code == 0
    stops = [line for line in server.lines() if line.endswith("-stopped")]
    assert stops == ["gateway-stopped", "core-stopped", "replica-stopped"]
    assert not any(map(kit.alive, [*pids, server.pid_of("replica"), server.pid_of("grandchild")]))
    assert not (server.home.server / "server.json").exists()


def test_the_end_of_its_terminal_ends_it(server: Any, kit: Any) -> None:
    primary, secondary = pty.openpty()
    # A session with a terminal of its own, whose end the kernel tells by SIGHUP.
    process = server.start(
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(secondary, termios.TIOCSCTTY, 0))
    )
    kit.until(lambda: server.home.server_info() is not None)
    os.close(secondary)
    os.close(primary)
    code, _ = server.ended(process)
    assert code == 0
    assert "gateway-stopped" in server.lines()


def test_without_a_terminal_its_end_means_nothing(server: Any, kit: Any) -> None:
    process = server.ready(preexec_fn=os.setsid)
    process.send_signal(signal.SIGHUP)
    assert ask(server.info().addresses["api"]) == server.info().pids["gateway-1"]
    process.send_signal(signal.SIGTERM)
    code, _ = server.ended(process)
    assert code == 0


def restart(server: Any, *words: str) -> tuple[int, str]:
    """`micro restart`: its status, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "microcosmos.cli", f"--home={server.home.path}", "restart", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_gateways_are_replaced(server: Any) -> None:
    server.ready(MICRO_GATEWAYS="2")
    before = server.info().pids
    assert restart(server)[0] == 0
    after = server.info().pids
    for name, pid in before.items():
        assert (after[name] == pid) == (not name.startswith("gateway")), name
    code, said = restart(server, "gateway-2")
    assert code == 0
    last = server.info().pids
    assert said == f"gateway-2  PID {last['gateway-2']}\n"
    assert last["gateway-1"] == after["gateway-1"]
    assert last["gateway-2"] != after["gateway-2"]
    assert ask(server.info().addresses["api"]) in (last["gateway-1"], last["gateway-2"])


def test_a_gateway_that_cannot_be_replaced_stays(server: Any) -> None:
    server.ready()
    before = server.info().pids
    broken = Path(f"{server.journal}.broken")
    broken.touch()
    code, said = restart(server)
    assert code != 0
    assert "gateway-1 could not start: (PID " in said
    assert "it said last: the gateway has lost its way" in said
    assert said.count("\n") == 1
    assert server.info().pids == before
    assert ask(server.info().addresses["api"]) == before["gateway-1"]
    broken.unlink()
    assert restart(server)[0] == 0


def test_what_cannot_be_restarted_is_told(server: Any) -> None:
    assert restart(server) == (4, "micro: no server is running for this MICRO_HOME\n")
    server.ready()
    code, said = restart(server, "core")
    assert code != 0
    assert said.startswith("micro: core cannot be restarted, only: gateway, gateway-1")


def test_a_certificate_that_cannot_be_used_is_told_in_one_line(server: Any, mint: Any) -> None:
    certificate, key = mint.make()
    for given, said in (
        ({"CERT": str(certificate)}, "--api_tls_cert_file is of no use without --api_tls_key_file"),
        ({"KEY": str(key)}, "--api_tls_key_file is of no use without --api_tls_cert_file"),
        ({"CLIENT_CA": str(key)}, "--api_tls_client_ca_file is of no use without --api_tls_cert_f"),
        ({"CERT": "/no/file", "KEY": str(key)}, "--api_tls_cert_file: /no/file cannot be read: No"),
    ):
        named = {f"MICRO_API_TLS_{name}_FILE": path for name, path in given.items()}
        code, line = server.ended(server.start(**named))
        assert code == 1
        assert line.startswith(said)
        assert line.count("\n") == 1


def test_an_access_log_that_cannot_be_written_is_told_in_one_line(server: Any) -> None:
    where = {"MICRO_API_ACCESS_LOG": "json", "MICRO_API_ACCESS_LOG_FILE": "/no/folder/log"}
    code, line = server.ended(server.start(**where))
    assert code == 1
    assert line == (
        "--api_access_log_file: /no/folder/log cannot be written to: No such file or directory\n"
    )


def test_with_a_certificate_it_says_https(server: Any, mint: Any) -> None:
    certificate, key = mint.make()
    named = {
        "MICRO_API_TLS_CERT_FILE": str(certificate),
        "MICRO_API_TLS_KEY_FILE": str(key),
    }
    process = server.ready(**named)
    info = server.info()
    assert info.api == f"https://{info.addresses['api']}"
    copies = server.home.server / "tls"
    assert {path.stat().st_mode & 0o777 for path in copies.rglob("*.pem")} == {0o600}
    process.send_signal(signal.SIGTERM)
    _, said = server.ended(process)
    assert said.splitlines()[0] == f"api   {info.api}"
    assert not copies.exists()


def test_a_second_signal_ends_it_at_once(server: Any, kit: Any) -> None:
    process = server.ready(CORE="stubborn")
    process.send_signal(signal.SIGINT)
    kit.until(lambda: "gateway-stopped" in server.lines())
    process.send_signal(signal.SIGINT)
    code, _ = server.ended(process)
    assert code == 0
    assert not kit.alive(server.pid_of("core"))


def test_a_signal_during_the_start_leaves_nothing(server: Any, kit: Any) -> None:
    process = server.start(CORE="silent")
    kit.until(lambda: server.pid_of("core") and server.pid_of("replica"))
    process.send_signal(signal.SIGINT)
    code, _ = server.ended(process)
    assert code == 0
    assert not any(kit.alive(server.pid_of(who)) for who in ("core", "replica", "grandchild"))


def test_kill_9_leaves_no_child_and_the_next_start_recovers(server: Any, kit: Any) -> None:
    process = server.ready()
    kit.until(lambda: server.pid_of("replica"))
    before = server.info()
    everyone = [*children(before), server.pid_of("replica"), server.pid_of("grandchild")]
    assert all(map(kit.alive, everyone))
    process.kill()
    server.ended(process)
    kit.until(lambda: not any(map(kit.alive, everyone)))
    assert (server.home.server / "server.json").exists()
    assert server.home.supervisor_lane.exists()
    server.ready(MICRO_API_ADDRESS=before.addresses["api"])
    after = server.info()
    assert after.addresses["api"] == before.addresses["api"]
    assert after.addresses["nats"] == before.addresses["nats"]
    assert ask(after.addresses["api"]) == after.pids["gateway-1"]


def test_a_start_right_after_kill_9_waits_for_the_dying(server: Any) -> None:
    process = server.ready()
    address = server.info().addresses["api"]
    process.kill()
    server.ready(MICRO_API_ADDRESS=address)
    assert server.info().addresses["api"] == address


@pytest.mark.parametrize("who", ["core", "nats", "gateway-1"])
def test_a_killed_child_comes_back_and_services_stay(server: Any, kit: Any, who: str) -> None:
    server.ready()
    kit.until(lambda: server.pid_of("replica"))
    before = server.info()
    os.kill(before.pids[who], signal.SIGKILL)
    kit.until(lambda: server.info().pids.get(who, before.pids[who]) != before.pids[who])
    assert kit.alive(server.pid_of("replica"))
    assert [line.split()[0] for line in server.lines()].count("replica") == 1
    assert ask(server.info().addresses["api"]) == server.info().pids["gateway-1"]


def test_a_second_server_on_the_home_is_refused(server: Any) -> None:
    first = server.ready()
    code, said = server.ended(server.start())
    assert code == 1
    assert said == (
        f"a server is running already on {server.home.path} (PID {first.pid}); "
        "stop it with `micro stop`, or give this one another MICRO_HOME\n"
    )
    assert server.info().pids["server"] == first.pid


def test_a_port_in_use_names_its_holder(server: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for flag in ("api_address", "proxy_address", "nats_address"):
            variable = f"MICRO_{flag.upper()}"
            code, said = server.ended(server.start(**{variable: f"127.0.0.1:{port}"}))
            assert code == 1
            name = subprocess.check_output(
                ["ps", "-p", str(os.getpid()), "-o", "comm="], text=True
            ).strip()
            assert said == f"port {port} is in use by PID {os.getpid()} ({name}); use --{flag}\n"


def test_a_damaged_key_file_is_told_in_one_line(server: Any) -> None:
    server.home.make()
    path = server.home.server / "keys" / "operator.nk"
    path.write_text("SOAK not a key")
    code, said = server.ended(server.start())
    assert code == 1
    assert said.startswith(f"the key file {path} is damaged")
    assert said.count("\n") == 1


def test_a_damaged_server_json_does_not_matter(server: Any) -> None:
    server.home.make()
    (server.home.server / "server.json").write_bytes(b'{"pids": \xff')
    server.ready()


def test_a_stale_server_json_with_numbers_of_others_does_not_matter(server: Any, kit: Any) -> None:
    server.home.make()
    pids = {"server": os.getpid(), "core": os.getpid()}
    server.home.write_server_info(ServerInfo("0.0.0", 1.0, pids, {}))
    server.ready()
    assert kit.alive(os.getpid())


def test_a_core_that_cannot_start_is_told_with_its_last_words(server: Any, kit: Any) -> None:
    code, said = server.ended(server.start(CORE="broken"))
    assert code == 1
    assert said.startswith("core could not start: (PID ")
    assert "ended with status 1; it said last: the core cannot find its head (log: " in said
    assert said.count("\n") == 1
    assert not (server.home.server / "server.json").exists()


def test_a_home_that_cannot_be_one_is_told_in_one_line(server: Any) -> None:
    server.home.path.write_text("a file")
    code, said = server.ended(server.start())
    assert code == 1
    assert said == f"{server.home.path} cannot be the MICRO_HOME: File exists\n"


def test_nothing_of_the_home_is_open_to_others(server: Any) -> None:
    server.ready()
    for path in server.home.path.rglob("*"):
        parents = [one for one in path.parents if one.is_relative_to(server.home.path)]
        assert any(one.stat().st_mode & 0o077 == 0 for one in parents), path
    for path in (server.home.server / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
