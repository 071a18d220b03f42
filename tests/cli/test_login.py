"""`micro login`, `logout`, `user` and what namespaces and environments have to do with them."""

from __future__ import annotations

import io
import json
import stat
import sys
import threading
import time

import msgspec
import pexpect
import pytest

from microcosmos.auth.logins import LOCAL, Logins
from microcosmos.base.home import Home

from .conftest import Micro, Platform
from .terminal import spawn

PASSWORD = "a good password"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The standard input, no terminal."""
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stdin", lines)
    return lines


def feed(lines: io.StringIO, *texts: str) -> None:
    lines.seek(0)
    lines.truncate()
    lines.write("".join(f"{text}\n" for text in texts))
    lines.seek(0)


def logins(home: Home) -> Logins:
    return Logins(home.path / "tokens")


def account(micro: Micro, id: str, *flags: str) -> str:
    """Make an account; its secret."""
    made = micro("auth", "create", "account", id, "--output=json", *flags)
    assert made.code == 0, made.err
    secret: str = json.loads(made.out)["secret"]
    return secret


# Logging in.


@pytest.mark.usefixtures("guarded")
def test_with_both_flags_nothing_is_asked(micro: Micro, home: Home, typed: io.StringIO) -> None:
    result = micro("login", "--username=admin", "--password=micro")
    assert result.out == "Successfully logged in.\n"
    assert "everybody knows this password" in result.err
    assert micro("user").out == "admin\n"
    kept = logins(home).last(LOCAL)
    assert kept is not None
    assert not kept.implicit
    assert stat.S_IMODE((home.path / "tokens").stat().st_mode) == 0o600


@pytest.mark.slow
def test_at_a_terminal_it_asks_as_in_the_reference(guarded: Platform) -> None:
    home = {"MICRO_HOME": str(guarded.home.path)}
    terminal = spawn([sys.executable, "-m", "microcosmos.cli", "login"], **home)
    terminal.expect_exact("Enter username: ")
    terminal.sendline("admin")
    terminal.expect_exact("Enter password: ")
    terminal.sendline("micro")
    terminal.expect_exact("Successfully logged in.")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0
    kept = logins(guarded.home).last(LOCAL)
    assert kept is not None
    assert kept.account == "admin"


@pytest.mark.usefixtures("guarded")
def test_a_password_comes_from_the_standard_input(micro: Micro, typed: io.StringIO) -> None:
    feed(typed, "micro")
    assert micro("login", "--email", "admin", "--password", "-").code == 0
    feed(typed)
    result = micro("login", "--email", "admin", "--password", "-")
    assert result.code == 64
    assert result.err == "micro: --password -: the standard input has no line for it\n"


@pytest.mark.usefixtures("guarded", "typed")
@pytest.mark.parametrize(
    ("words", "flag"), [(["login"], "--username"), (["login", "--username=x"], "--password")]
)
def test_without_a_terminal_it_says_what_to_give(micro: Micro, words: list[str], flag: str) -> None:
    result = micro(*words)
    assert result.code == 64
    assert result.err.startswith(f"micro: there is no terminal to ask at; give {flag}")


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("who", ["admin", "nosuch"])
def test_a_wrong_password_is_refused_in_one_line(micro: Micro, home: Home, who: str) -> None:
    result = micro("login", f"--username={who}", "--password=wrong-password")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert who in result.err
    assert "wrong-password" not in result.err
    assert "log in again" not in result.err
    assert logins(home).last(LOCAL) is None


def test_where_no_server_runs_it_says_so(micro: Micro) -> None:
    result = micro("login", "--username=admin", "--password=micro")
    assert result.code == 4
    assert "no server is running" in result.err


@pytest.mark.usefixtures("guarded")
def test_a_damaged_file_of_logins_is_named(micro: Micro, home: Home) -> None:
    (home.path / "tokens").write_text("{")
    for words in (["services"], ["user"], ["login", "--username=admin", "--password=micro"]):
        result = micro(*words)
        assert result.code == 127
        assert f"{home.path / 'tokens'} is damaged; remove it" in result.err
        assert result.err.count("\n") == 1


# A fresh server.


@pytest.mark.usefixtures("guarded")
def test_on_a_fresh_server_one_is_admin_without_a_login(micro: Micro, home: Home) -> None:
    assert micro("user").out == "admin\n"
    kept = logins(home).last(LOCAL)
    assert kept is not None
    assert kept.implicit


@pytest.mark.usefixtures("guarded")
def test_that_ends_with_the_password_of_a_fresh_server(micro: Micro, home: Home) -> None:
    assert micro("user").out == "admin\n"
    words = ["--old_secret=micro", f"--new_secret={PASSWORD}"]
    changed = micro("auth", "update", "secret", "admin", *words)
    assert changed.out == "Secret updated\n"
    # What everybody may call can be called still, by nobody.
    assert micro("helloworld", "--name=Ann").code == 0
    assert "Authorization" not in json.loads(micro("call", "things", "SeenMetadata").out)
    result = micro("user")
    assert result.code == 2
    assert "nobody is logged in to local; log in with `micro login`" in result.err
    assert logins(home).all(LOCAL) == []
    result = micro("auth", "list", "accounts")
    assert result.code == 2
    assert "log in with `micro login`" in result.err


@pytest.mark.usefixtures("guarded")
def test_a_user_changes_the_password_and_stays_logged_in(
    micro: Micro, home: Home, typed: io.StringIO
) -> None:
    feed(typed, "micro", PASSWORD)
    result = micro("user", "set", "password", "--old-password=-", "--new-password=-")
    assert result.out == "Successfully changed the password.\n"
    kept = logins(home).last(LOCAL)
    assert kept is not None
    assert not kept.implicit
    assert micro("user").out == "admin\n"
    assert micro("login", "--username=admin", "--password=micro").code == 2
    assert micro("login", "--username=admin", f"--password={PASSWORD}").code == 0


@pytest.mark.usefixtures("guarded", "typed")
def test_a_password_that_is_too_short_is_refused(micro: Micro) -> None:
    result = micro("user", "set", "password", "--old-password=micro", "--new-password=short")
    assert result.code == 127
    assert "8" in result.err
    assert micro("user").out == "admin\n"


# Being somebody.


@pytest.mark.usefixtures("guarded")
def test_calls_carry_the_login(micro: Micro) -> None:
    seen = json.loads(micro("call", "things", "SeenMetadata").out)
    token = micro("user", "token").out.strip()
    assert seen["Authorization"] == f"Bearer {token}"
    own = micro("call", "things", "SeenMetadata", "--metadata", f"authorization=Bearer {token}")
    assert json.loads(own.out)["Authorization"] == f"Bearer {token}"


@pytest.mark.usefixtures("guarded")
def test_a_token_is_printed_bare_and_renewed_when_it_is_about_to_end(
    micro: Micro, home: Home
) -> None:
    first = micro("user", "token").out.strip()
    assert micro("user", "token").out.strip() == first
    kept = logins(home).last(LOCAL)
    assert kept is not None
    old = msgspec.structs.replace(kept, expiry=time.time() + 30)
    logins(home).put(LOCAL, old)
    second = json.loads(micro("user", "token", "--output=json").out)
    assert second["access_token"] != first
    assert 800 < second["expiry"] - time.time() <= 900
    fresh = logins(home).last(LOCAL)
    assert fresh is not None
    assert fresh.refresh_token != kept.refresh_token


@pytest.mark.usefixtures("guarded")
def test_a_token_that_the_server_does_not_know_any_more_is_replaced(
    micro: Micro, home: Home
) -> None:
    """As after a restart of a server whose keys were in memory."""
    micro("login", "--username=admin", "--password=micro")
    kept = logins(home).last(LOCAL)
    assert kept is not None
    logins(home).put(LOCAL, msgspec.structs.replace(kept, access_token="a.b.c"))
    assert micro("auth", "list", "rules").code == 0
    fresh = logins(home).last(LOCAL)
    assert fresh is not None
    assert fresh.access_token != "a.b.c"


@pytest.mark.usefixtures("guarded")
def test_a_login_that_was_ended_elsewhere_says_how_to_go_on(micro: Micro, home: Home) -> None:
    secret = account(micro, "jane", "--scopes=admin")
    micro("login", "--username=jane", f"--password={secret}")
    kept = (home.path / "tokens").read_text()
    assert micro("logout").out == "Successfully logged out.\n"
    (home.path / "tokens").write_text(kept)
    result = micro("auth", "list", "rules")
    assert result.code == 2
    assert "the login of jane has ended; log in with `micro login`" in result.err
    # And it stays so: nobody becomes somebody else by that.
    assert micro("user").code == 2
    assert micro("logout").out == "Successfully logged out.\n"
    assert micro("user").out == "admin\n"


@pytest.mark.usefixtures("guarded")
def test_logging_out_twice_is_no_error(micro: Micro, home: Home) -> None:
    micro("login", "--username=admin", "--password=micro")
    assert micro("logout").out == "Successfully logged out.\n"
    assert micro("logout").out == "Nobody was logged in.\n"
    assert logins(home).all(LOCAL) == []


def test_one_can_log_out_while_the_server_is_away(micro: Micro, guarded: Platform) -> None:
    micro("login", "--username=admin", "--password=micro")
    guarded.home.forget_server_info()
    result = micro("logout")
    assert result.code == 0
    assert result.out == "Successfully logged out.\n"
    assert "the server could not be told" in result.err
    assert logins(guarded.home).all(LOCAL) == []


@pytest.mark.usefixtures("guarded")
def test_commands_at_once_renew_a_login_once_and_all_work(micro: Micro, home: Home) -> None:
    micro("login", "--username=admin", "--password=micro")
    kept = logins(home).last(LOCAL)
    assert kept is not None
    logins(home).put(LOCAL, msgspec.structs.replace(kept, expiry=0.0))
    from microcosmos.cli.session import Session

    tokens: list[str] = []

    def ask() -> None:
        session = Session()
        session.choose("", "", "", "")
        session.core("auth", "Rules.List", {})
        login = session.caller.login()
        assert login is not None
        tokens.append(login.access_token)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tokens) == 6
    assert len(set(tokens)) == 1
    assert tokens[0] != kept.access_token


# Namespaces.


@pytest.mark.usefixtures("guarded")
def test_a_namespace_is_chosen_for_an_environment(
    micro: Micro, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert micro("user", "namespace").out == "micro\n"
    result = micro("user", "namespace", "set", "staging")
    assert result.code == 4
    assert "there is no namespace 'staging'" in result.err
    assert micro("auth", "create", "namespace", "staging").out == "Namespace created\n"
    assert micro("user", "namespace", "set", "staging").code == 0
    assert micro("user", "namespace", "get").out == "staging\n"
    assert json.loads((home.path / "config.json").read_text()) == {
        "namespaces": {"local": "staging"}
    }
    # The variable goes before it, and the flag before that.
    monkeypatch.setenv("MICRO_NAMESPACE", "other")
    assert micro("user", "namespace").out == "other\n"
    assert micro("--namespace=third", "user", "namespace").out == "third\n"


@pytest.mark.usefixtures("guarded")
def test_a_login_of_a_namespace_makes_its_calls_there(micro: Micro, home: Home) -> None:
    micro("auth", "create", "namespace", "staging")
    secret = account(micro, "ann", "--namespace=staging", "--scopes=admin")
    result = micro("--namespace=staging", "login", "--username=ann", f"--password={secret}")
    assert result.code == 0, result.err
    assert micro("user").out == "ann\n"
    assert micro("user", "namespace").out == "staging\n"
    listed = json.loads(micro("auth", "list", "accounts", "--output=json").out)
    assert [one["id"] for one in listed] == ["ann"]
    # The services of other namespaces are not seen from there.
    assert micro("helloworld").code == 4
    # Elsewhere she is nobody.
    logins(home).remove(LOCAL, "micro")
    result = micro("--namespace=micro", "auth", "list", "accounts")
    assert result.code == 2
    assert "by ann; ann is of the namespace staging" in result.err
    # To log in again without a word of the namespace is to log in to the usual one.
    assert micro("login", "--username=admin", "--password=micro").code == 0
    assert micro("user", "namespace").out == "micro\n"
    assert micro("--namespace=staging", "user").out == "ann\n"
    words = ("--username=ann", f"--password={secret}")
    assert micro("login", "--namespace=staging", *words).code == 0
    assert micro("user").out == "ann\n"
    assert micro("login", "--namespace=A", *words).code == 64


@pytest.mark.parametrize("name", ["A", "a b", "-a", "$platform", "x" * 51, "\x1b[1m"])
def test_a_bad_namespace_is_refused(micro: Micro, guarded: Platform, name: str) -> None:
    for words in (["user", "namespace", "set", "--", name], [f"--namespace={name}", "services"]):
        result = micro(*words)
        assert result.code == 64, result
        assert "is no namespace" in result.err


# Environments.


def test_deleting_an_environment_forgets_its_logins_and_its_namespace(
    micro: Micro, home: Home
) -> None:
    micro("env", "add", "far", "far.example.com")
    micro("env", "add", "same", "far.example.com")
    (home.path / "config.json").write_text(
        (home.path / "config.json").read_text()[:-2] + ', "namespaces": {"far": "staging"}}'
    )
    made = {"account": "ann", "access_token": "a", "expiry": 10.0**10}
    kept = {"far.example.com": {"namespace": "micro", "logins": {"micro": made}}}
    (home.path / "tokens").write_text(json.dumps(kept))
    micro("env", "del", "far")
    assert logins(home).last("far.example.com") is not None, "another one is there still"
    assert "namespaces" not in json.loads((home.path / "config.json").read_text())
    micro("env", "del", "same")
    assert logins(home).last("far.example.com") is None


def test_an_environment_that_moves_does_not_take_its_logins_along(micro: Micro, home: Home) -> None:
    micro("env", "add", "far", "far.example.com")
    made = {"account": "ann", "access_token": "a", "expiry": 10.0**10}
    kept = {"far.example.com": {"namespace": "micro", "logins": {"micro": made}}}
    (home.path / "tokens").write_text(json.dumps(kept))
    micro("env", "add", "far", "elsewhere.example.com")
    assert logins(home).read() == {}


def test_a_password_in_the_clear_is_warned_about(micro: Micro) -> None:
    from microcosmos.cli.environments import Environment, exposed

    assert exposed(Environment("far", "far.example.com:8081"))
    assert exposed(Environment("far", "http://10.0.0.1"))
    for address in ("far.example.com", "https://far.example.com:8081", "127.0.0.1:8081", "[::1]:1"):
        assert not exposed(Environment("far", address)), address
    assert not exposed(Environment("far", "localhost:8081"))
    micro("env", "add", "far", "127.0.0.2:1")
    result = micro("--env=far", "login", "--username=a", "--password=b")
    assert result.code == 4
    assert "without TLS" not in result.err
