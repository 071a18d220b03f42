"""examples/signup: somebody who has no account makes one, with `micro signup`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pexpect
import pytest

from ..cli.terminal import spawn
from ..e2e.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "signup"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server on which signup runs."""
    server = Live("--gateways=1")
    folder = tmp_path_factory.mktemp("signup")
    try:
        server.start()
        clerk = folder / "clerk"
        words = ["auth", "create", "account", "--scopes=admin", "signup-clerk", "-o", "json"]
        clerk.write_text(server.micro(*words).json["secret"])
        (folder / "outbox").mkdir()
        variables = f"SIGNUP_CLERK=signup-clerk,SIGNUP_SECRET_FILE={clerk}"
        outbox = f"SIGNUP_OUTBOX={folder / 'outbox'}"
        server.micro("run", str(EXAMPLE), "--env_vars", variables, "--env_vars", outbox)
        server.outbox = folder / "outbox"  # type: ignore[attr-defined]
        server.clerk = clerk  # type: ignore[attr-defined]
        yield server
    finally:
        server.close()


@pytest.fixture
def visitor(server: Live, tmp_path: Path) -> dict[str, str]:
    """The variables of somebody else's command line, who knows the server's address alone."""
    variables = {"MICRO_HOME": str(tmp_path / "home")}
    server.micro("env", "add", "far", server.info.addresses["proxy"], **variables)
    server.micro("env", "set", "far", **variables)
    return variables


def code(server: Live, address: str) -> str:
    mail = (server.outbox / address).read_text()  # type: ignore[attr-defined]
    found = re.search(r"sign up: (\d{8})", mail)
    assert found is not None
    return found[1]


def test_somebody_signs_up_at_a_terminal(server: Live, visitor: dict[str, str]) -> None:
    terminal = spawn([sys.executable, "-m", "microcosmos.cli", "signup"], **visitor)
    terminal.expect_exact("Enter email address: ")
    terminal.sendline("Ann@example.com")
    terminal.expect_exact("Enter the code sent to it: ")
    terminal.sendline(code(server, "ann@example.com"))
    terminal.expect_exact("Enter a new password: ")
    terminal.sendline("correct horse")
    terminal.expect_exact("Successfully signed up and logged in.")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0
    assert server.micro("user", **visitor).out == "ann@example.com\n"
    kept = json.loads((Path(visitor["MICRO_HOME"]) / "tokens").read_text())
    (login,) = next(iter(kept.values()))["logins"].values()
    assert login["account"] == "ann@example.com"
    # An account like any other, and without a right to make others.
    words = ["login", "--username=ann@example.com", "--password=correct horse"]
    server.micro(*words, **visitor)
    assert "ann@example.com" in server.micro("auth", "list", "accounts").out
    server.refused(2, "auth", "list", "accounts", **visitor)


def test_a_script_signs_up_in_two_steps(server: Live, visitor: dict[str, str]) -> None:
    told = server.refused(64, "signup", "--email=bob@example.com", **visitor)
    assert "there is no terminal to ask at; give --code" in told
    sent = code(server, "bob@example.com")
    flags = ["--email=bob@example.com", "--password=correct horse"]
    wrong = f"{(int(sent) + 1) % 10**8:08d}"
    told = server.refused(127, "signup", *flags, f"--code={wrong}", **visitor)
    assert "that is not the code that was sent" in told
    told = server.refused(
        127, "signup", "--email=bob@example.com", "--password=short", f"--code={sent}", **visitor
    )
    assert "8" in told
    server.micro("signup", *flags, f"--code={sent}", **visitor)
    assert server.micro("user", **visitor).out == "bob@example.com\n"
    # A code is good once, and an address signs up once.
    server.refused(127, "signup", *flags, f"--code={sent}", **visitor)
    server.refused(64, "signup", "--email=bob@example.com", **visitor)
    words = [*flags, f"--code={code(server, 'bob@example.com')}"]
    assert "already" in server.refused(127, "signup", *words, **visitor)


@pytest.mark.parametrize(
    "address", ["", "x", "../x@y.z", "a@b", "a b@c.d", "@c.d", "a" * 99 + "@b.c"]
)
def test_what_is_no_address_is_refused(server: Live, address: str) -> None:
    answer = httpx.post(
        f"{server.url}/signup/sendVerificationEmail",
        json={"email": address},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 400
    assert answer.json()["Detail"] == "that is no e-mail address"


def test_codes_are_not_guessed(server: Live) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as web:
        sent = {"email": "eve@example.com"}
        assert web.post("/signup/sendVerificationEmail", json=sent).status_code == 200
        again = web.post("/signup/sendVerificationEmail", json=sent)
        assert again.status_code == 429
        right = code(server, "eve@example.com")
        for _ in range(5):
            wrong = {**sent, "token": "x"}
            assert web.post("/signup/verify", json=wrong).status_code == 400
        late = web.post("/signup/verify", json={**sent, "token": right})
        assert late.status_code == 400
        assert "have one sent" in late.json()["Detail"]


def test_a_clerk_that_is_gone_is_no_fault_of_the_visitor(
    server: Live, visitor: dict[str, str]
) -> None:
    server.refused(64, "signup", "--email=kim@example.com", **visitor)
    server.micro("auth", "update", "secret", "signup-clerk", "--new_secret=another one")
    sent = code(server, "kim@example.com")
    flags = ["--email=kim@example.com", "--password=correct horse", f"--code={sent}"]
    told = server.refused(4, "signup", *flags, **visitor)
    assert "no accounts can be made now" in told
    assert "the clerk cannot log in" in server.micro("logs", "signup").out
    server.clerk.write_text("another one")  # type: ignore[attr-defined]
    server.micro("signup", *flags, **visitor)


def test_without_the_service_it_says_how_accounts_are_made(server: Live) -> None:
    server.micro("auth", "create", "namespace", "without")
    told = server.refused(4, "--namespace=without", "signup")
    assert "an administrator makes accounts with `micro auth create account`" in told
    assert "a fresh server has admin with the password micro" in told


def test_it_does_not_start_without_a_clerk(server: Live) -> None:
    said = server.type("run", str(EXAMPLE), "--name=lost")
    assert said.code == 127
    assert "set SIGNUP_CLERK and SIGNUP_SECRET_FILE" in said.err
    server.type("kill", "lost")
