"""The files of token keys."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import jwt
import pytest

from microcosmos.auth.interface import Account
from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.auth.tokens import LONGEST, verify
from microcosmos.base import errors
from microcosmos.base.clock import ManualClock

JANE = Account(id="jane")


def test_the_same_key_is_there_after_a_restart(tmp_path: Path) -> None:
    token = TokenKeys(tmp_path / "keys").signer.sign(JANE, "", 1000, 900)
    again = TokenKeys(tmp_path / "keys")
    assert verify(token, again.public(), 1001).account.id == "jane"


def test_nobody_else_may_read_a_key(tmp_path: Path) -> None:
    TokenKeys(tmp_path / "keys")
    [file] = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    file.chmod(0o644)
    TokenKeys(tmp_path / "keys")
    assert file.stat().st_mode & 0o777 == 0o600


def test_all_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def open_one() -> None:
        start.wait()
        found.append(TokenKeys(tmp_path).signer.id)

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_new_key_signs_and_the_old_one_verifies_as_long_as_its_tokens_live(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    keys = TokenKeys(tmp_path, clock=clock)
    old = keys.signer.id
    token = keys.signer.sign(JANE, "", clock.time(), LONGEST)
    new = keys.rotate().id
    assert keys.signer.id == new != old
    assert verify(token, keys.public(), clock.time()).account == Account(id="jane", name="jane")
    clock._now += LONGEST - 1
    keys.prune()
    assert {*keys.public()} == {old, new}
    clock._now += 2
    keys.prune()
    assert {*keys.public()} == {new} == {*TokenKeys(tmp_path, clock=clock).public()}


def test_a_key_that_leaked_is_forgotten_at_once(tmp_path: Path) -> None:
    keys = TokenKeys(tmp_path)
    old = keys.signer.id
    keys.rotate(forget=True)
    assert old not in keys.public()
    assert old not in TokenKeys(tmp_path).public()


def test_another_process_sees_a_new_key_when_it_looks(tmp_path: Path) -> None:
    one, other = TokenKeys(tmp_path), TokenKeys(tmp_path)
    one.rotate()
    other.refresh()
    assert other.signer.id == one.signer.id


def test_in_memory_nothing_is_written() -> None:
    keys = TokenKeys()
    assert keys.signer.id != keys.rotate().id
    assert len(keys.public()) == 2


def test_the_key_set_is_one_that_other_libraries_read() -> None:
    keys = TokenKeys()
    token = keys.signer.sign(JANE, "", 1000, 900)
    found = jwt.PyJWKSet.from_dict(json.loads(json.dumps(keys.jwks())))
    key = found[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["EdDSA"], options={"verify_exp": False})
    assert claims["sub"] == "jane"
    assert all("d" not in one for one in keys.jwks()["keys"])


def damaged(path: Path, how: str) -> None:
    said = json.loads(path.read_bytes())
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "other":
        path.write_text(json.dumps({**said, "x": TokenKeys().signer.public}))
    elif how == "short":
        path.write_text(json.dumps({**said, "d": base64.urlsafe_b64encode(b"abc").decode()}))
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["empty", "cut", "other", "short", "folder"])
def test_a_damaged_key_is_named_and_never_replaced(tmp_path: Path, how: str) -> None:
    TokenKeys(tmp_path)
    [path] = tmp_path.iterdir()
    damaged(path, how)
    with pytest.raises(errors.InternalServerError, match="put it back from a backup") as caught:
        TokenKeys(tmp_path)
    assert str(path) in caught.value.detail
    assert [*tmp_path.iterdir()] == [path]


def test_a_token_of_a_process_of_ours() -> None:
    keys = TokenKeys()
    token = verify(platform_token(keys, "core", 60), keys.public(), keys._clock.time())
    assert (token.account.id, token.account.type) == ("core", "platform")
    assert token.expires - token.issued == pytest.approx(60)
