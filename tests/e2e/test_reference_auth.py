"""The reference's section on auth, in its order, with its own lines: the real command and curl."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from ..cli.terminal import spawn
from .live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REFUSED = (
    '{"Id":"helloworld","Code":401,'
    '"Detail":"Unauthorized call made to helloworld:Helloworld.Call","Status":"Unauthorized"}'
)


@pytest.fixture
def server(another: Callable[..., Live]) -> Live:
    return another().start()


def sh(server: Live, line: str) -> str:
    """What a line prints in a shell, with `micro` on its path and the port that is taken here."""
    line = line.replace("127.0.0.1:8080", server.info.addresses["api"])
    programs = f"{Path(sys.executable).parent}:{server.env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=server.work,
        env={**server.env, "PATH": programs},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done
    return done.stdout


def log_in(server: Live, username: str, password: str) -> None:
    """As somebody does at a terminal."""
    home = {"MICRO_HOME": str(server.home.path)}
    terminal = spawn([sys.executable, "-m", "microcosmos.cli", "login"], **home)
    terminal.expect_exact("Enter username: ")
    terminal.sendline(username)
    terminal.expect_exact("Enter password: ")
    terminal.sendline(password)
    terminal.expect_exact("Successfully logged in.\r\n")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0


def test_the_section_runs_as_it_is_printed(server: Live) -> None:
    log_in(server, "admin", "micro")
    assert sh(server, "micro auth list rules") == (
        "ID       Scope     Access   Resource  Priority\ndefault  <public>  GRANTED  *:*:*     0\n"
    )
    sh(server, "micro run helloworld")
    call = "curl -s '127.0.0.1:8080/helloworld/call?name=Alice'"
    assert sh(server, call) == '{"msg":"Hello Alice"}'
    sh(
        server,
        "micro auth create rule --access=granted --scope='*' --resource=\"*:*:*\" onlyloggedin",
    )
    sh(server, 'micro auth create rule --access=granted --resource="service:auth:*" auth-public')
    assert sh(server, "micro auth list rules") == (
        "ID            Scope     Access   Resource        Priority\n"
        "auth-public   <public>  GRANTED  service:auth:*  0\n"
        "onlyloggedin  *         GRANTED  *:*:*           0\n"
        "default       <public>  GRANTED  *:*:*           0\n"
    )
    assert sh(server, "micro auth delete rule default") == "Rule deleted\n"
    assert sh(server, call) == REFUSED
    with_token = f'token=$(micro user token)\n{call} -H "Authorization: Bearer $token"'
    assert sh(server, with_token) == '{"msg":"Hello Alice"}'
    inline = (
        f'MICRO_API_TOKEN=`micro user token`; {call} -H "Authorization: Bearer $MICRO_API_TOKEN"'
    )
    assert sh(server, inline) == '{"msg":"Hello Alice"}'
    assert sh(server, "micro auth list accounts") == (
        "ID     Name   Scopes  Metadata\nadmin  admin  admin   n/a\n"
    )
    made = sh(server, "micro auth create account --scopes=admin jane")
    jane = json.loads(made.removeprefix("Account created: "))
    assert list(jane) == ["id", "type", "issuer", "metadata", "scopes", "secret", "name"]
    assert {**jane, "type": "", "secret": ""} == {
        "id": "jane",
        "type": "",
        "issuer": "micro",
        "metadata": None,
        "scopes": ["admin"],
        "secret": "",
        "name": "jane",
    }
    log_in(server, "jane", jane["secret"])
    assert sh(server, "micro user") == "jane\n"
    assert sh(server, "micro helloworld --name=John") == '{\n  "msg": "Hello John"\n}\n'
    assert "jane " in sh(server, "micro auth list accounts")


def test_each_environment_has_a_login_of_its_own(server: Live) -> None:
    server.micro("run", "helloworld")
    server.micro("auth", "delete", "rule", "default")
    server.micro("env", "add", "far", server.info.addresses["proxy"])
    # Elsewhere nobody is admin without a login, and every command says what to do.
    for words in (["services"], ["helloworld"], ["status"], ["proto", "helloworld"]):
        told = server.refused(2, "--env=far", *words)
        assert "log in with `micro login`" in told
    assert "nobody is logged in to far" in server.refused(2, "--env=far", "user")
    secret = server.micro("auth", "create", "account", "ann", "-o", "json").json["secret"]
    words = ["--env=far", "login", "--username=ann", f"--password={secret}"]
    assert server.micro(*words).out == "Successfully logged in.\n"
    assert server.micro("--env=far", "user").out == "ann\n"
    assert server.micro("user").out == "admin\n"
    server.micro("env", "set", "far")
    assert server.micro("user").out == "ann\n"
    told = server.refused(2, "helloworld")
    assert "Forbidden call made to helloworld:Helloworld.Call by ann" in told
    server.micro("--env=local", "auth", "create", "rule", "anns", "--scope=*")
    assert server.micro("helloworld", "--name=Ann").json == {"msg": "Hello Ann"}
    assert "package helloworld;" in server.micro("proto", "helloworld").out
    counted = server.micro("stream", "helloworld", "Stream", '{"count": 2}', "-o", "json").lines
    assert counted == ['{"count":0}', '{"count":1}']
    # A login that is ended at the server is refused at once, and said to be.
    server.micro("--env=local", "auth", "revoke", "ann")
    told = server.refused(2, "helloworld")
    assert "the login of ann has ended; log in with `micro login`" in told
    server.micro("env", "set", "local")
    server.micro("env", "del", "far")
    assert "ann" not in (server.home.path / "tokens").read_text()


def test_an_admin_of_a_namespace_sees_that_alone(server: Live) -> None:
    server.micro("auth", "create", "namespace", "staging")
    made = server.micro(
        "auth", "create", "account", "ann", "--namespace=staging", "--scopes=admin", "-o", "json"
    ).json
    words = ["--namespace=staging", "login", "--username=ann", f"--password={made['secret']}"]
    server.micro(*words)
    # From here on all is staging's.
    assert server.micro("user", "namespace").out == "staging\n"
    ran = server.micro("run", "helloworld").out
    assert "curl -H 'Micro-Namespace: staging' " in ran
    assert "\nmicro --namespace=staging helloworld --name=John\n" in ran
    assert server.micro("helloworld").json == {"msg": "Hello World"}
    assert {"registry", "auth", "helloworld"} <= set(server.micro("services").lines)
    assert "getService" in server.micro("registry", "--help").out
    assert "Registry.GetService" in server.micro("get", "service", "registry").out
    curl = ran.splitlines()[1].replace("curl", "curl -s")
    assert sh(server, curl) == '{"msg":"Hello John"}'
    # What is elsewhere is not hers.
    assert "ann is of the namespace staging" in server.refused(
        2, "--namespace=micro", "status", MICRO_HOME=str(copy_of(server))
    )


def copy_of(server: Live) -> Path:
    """The home with no other login than the last one."""
    tokens = server.home.path / "tokens"
    document = json.loads(tokens.read_text())
    document["local"]["logins"].pop("micro", None)
    tokens.write_text(json.dumps(document))
    return server.home.path
