"""Keys on the disk and what is signed with them; what the engine makes of it is in tests/server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import nkeys
import pytest

from microcosmos.auth.credentials import Keys, Permissions, encode, inbox_prefix, public_key
from microcosmos.base import errors


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


def token_of(text: str) -> str:
    return text.splitlines()[1]


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first, again = Keys(tmp_path / "keys"), Keys(tmp_path / "keys")
    assert first.system.id == again.system.id
    assert first.account("micro").id == again.account("micro").id
    assert first.account("micro").id != first.account("other").id
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_a_key_file_that_others_could_read_is_closed(tmp_path: Path) -> None:
    Keys(tmp_path)
    (tmp_path / "operator.nk").chmod(0o644)
    Keys(tmp_path)
    assert (tmp_path / "operator.nk").stat().st_mode & 0o777 == 0o600


def swapped(seed: str) -> str:
    """A seed with one letter wrong."""
    return seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda seed: b"",
        lambda seed: b"\x00\xff" * 20,
        lambda seed: seed[:-3].encode(),
        lambda seed: swapped(seed).encode(),
        lambda seed: nkeys.encode_seed(b"1" * 32, nkeys.PREFIX_BYTE_USER),
        lambda seed: "SOé".encode(),
    ],
)
def test_a_damaged_key_file_is_named_and_kept(tmp_path: Path, damage: Any) -> None:
    Keys(tmp_path)
    path = tmp_path / "operator.nk"
    seed = path.read_text().strip()
    path.write_bytes(damage(seed))
    with pytest.raises(errors.Error) as caught:
        Keys(tmp_path)
    assert f"the key file {path} is damaged" in caught.value.detail
    assert seed not in caught.value.detail
    assert path.read_bytes() == damage(seed)


def test_a_folder_in_place_of_a_key_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "operator.nk").mkdir()
    with pytest.raises(errors.Error, match="is damaged"):
        Keys(tmp_path)


def test_a_token_is_signed_by_its_issuer(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    token = keys.account_token(keys.account("micro"))
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    assert keys.operator.verify(signed.encode(), raw)
    assert claims_of(token)["iss"] == public_key(keys.operator)


def test_only_the_system_account_has_no_streams(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    limits = claims_of(keys.account_token(keys.account("micro")))["nats"]["limits"]
    assert limits["disk_storage"] == -1
    assert limits["mem_storage"] > 0
    assert "disk_storage" not in claims_of(keys.account_token(keys.system))["nats"]["limits"]


def test_a_credential_names_its_user_and_its_inbox(tmp_path: Path) -> None:
    account = Keys(tmp_path).account("micro")
    credential = account.user("v1.users", expires=2_000_000_000)
    claims = claims_of(token_of(credential.text))
    assert (claims["name"], claims["iss"], claims["exp"]) == ("v1.users", account.id, 2_000_000_000)
    assert credential.inbox_prefix == "_INBOX.v1~users"
    path = credential.write(tmp_path / "users.creds")
    assert path.read_text() == credential.text
    assert path.stat().st_mode & 0o777 == 0o600


def test_permissions_are_what_was_given_and_the_own_inbox(tmp_path: Path) -> None:
    account = Keys(tmp_path).account("micro")
    allowed = Permissions(publish=("a.>",), subscribe=("b",))
    claims = claims_of(token_of(account.user("x", allowed).text))["nats"]
    assert claims["pub"] == {"allow": ["a.>"]}
    assert claims["sub"] == {"allow": ["b", "_INBOX.x.>"]}
    assert "resp" in claims
    silent = claims_of(token_of(account.user("x", Permissions(replies=False)).text))["nats"]
    assert silent["pub"] == {"deny": [">"]}
    assert "resp" not in silent


@pytest.mark.parametrize("name", ["a.b", "a*", ">", "a b", "ä", ""])
def test_a_name_cannot_widen_its_inbox(name: str) -> None:
    token = inbox_prefix(name).removeprefix("_INBOX.")
    assert token
    assert not set(token) & set(".*> ")


def test_no_two_tokens_are_alike(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    one, two = (encode(keys.operator, keys.system.id, name, {}) for name in ("a", "b"))
    assert claims_of(one)["jti"] != claims_of(two)["jti"]


def test_tags_tell_whose_connection_it_is(tmp_path: Path) -> None:
    account = Keys(tmp_path).account("micro")
    tagged = account.user("x", tags=("micro.replica:x-1-0-2",))
    assert claims_of(token_of(tagged.text))["nats"]["tags"] == ["micro.replica:x-1-0-2"]
    assert "tags" not in claims_of(token_of(account.user("x").text))["nats"]
