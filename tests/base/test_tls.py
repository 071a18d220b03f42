"""A certificate's files are refused before a door opens, in one line that names the cause."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from microcosmos.base import errors
from microcosmos.base.tls import LARGEST_FILE, Files

NOW = datetime.datetime.now(datetime.UTC)
KEYS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_good_certificate_is_read_and_written(mint: Any, tmp_path: Path, kind: str) -> None:
    files = Files(*mint.make(key=KEYS[kind]()))
    certificate = files.read()
    assert certificate.warning(NOW) == ""
    copy = certificate.write(tmp_path / "a" / "copy")
    assert copy.read().digest == certificate.digest
    for path in (copy.certificate, copy.key):
        assert path.stat().st_mode & 0o777 == 0o600
    assert copy.key.read_bytes() == files.key.read_bytes()


def _refused(files: Files) -> str:
    with pytest.raises(errors.BadRequest) as caught:
        files.read()
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_a_missing_file_names_its_flag(mint: Any, tmp_path: Path) -> None:
    certificate, key = mint.make()
    nowhere = tmp_path / "nowhere"
    for given, flag in (
        (Files(nowhere, key), "cert"),
        (Files(certificate, nowhere), "key"),
        (Files(certificate, key, nowhere), "client_ca"),
    ):
        said = _refused(given)
        assert said == f"--api_tls_{flag}_file: {nowhere} cannot be read: No such file or directory"


def test_a_folder_is_no_file(mint: Any, tmp_path: Path) -> None:
    certificate, _ = mint.make()
    assert _refused(Files(certificate, tmp_path)).endswith("cannot be read: Is a directory")


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nx\n", b"\xff\0"])
def test_what_is_no_pem_is_told(mint: Any, tmp_path: Path, content: bytes) -> None:
    certificate, key = mint.make()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    assert _refused(Files(damaged, key)).endswith(f"{damaged} holds no certificate in PEM")
    assert _refused(Files(certificate, damaged)).endswith(f"{damaged} holds no private key in PEM")
    assert "client_ca_file" in _refused(Files(certificate, key, damaged))


def test_files_that_were_mixed_up_are_told(mint: Any) -> None:
    certificate, key = mint.make()
    assert "cert_file" in _refused(Files(key, certificate))


def test_a_key_of_another_certificate_is_told(mint: Any) -> None:
    certificate, _ = mint.make()
    _, other = mint.make("other")
    said = _refused(Files(certificate, other))
    assert said.endswith(f"{other} is not the key of the certificate in {certificate}")


def test_an_encrypted_key_is_told(mint: Any, tmp_path: Path) -> None:
    key = KEYS["p256"]()
    certificate, _ = mint.make(key=key)
    locked = tmp_path / "locked"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "is encrypted" in _refused(Files(certificate, locked))


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())]
)
def test_a_key_that_tls_would_refuse_is_told(mint: Any, key: Any) -> None:
    assert "is of no kind that is taken: use RSA of 2048 bits" in _refused(
        Files(*mint.make(key=key))
    )


def test_a_file_without_end_is_not_read_whole(mint: Any) -> None:
    certificate, key = mint.make()
    with key.open("ab") as file:
        file.truncate(LARGEST_FILE + 1)
    assert "is too large" in _refused(Files(certificate, key))


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(-2, -1, "ended on "), (1, 90, "begins on "), (-1, 3, "ends on "), (-1, 90, "")],
)
def test_dates_are_warned_about(mint: Any, begins: float, ends: float, said: str) -> None:
    warning = Files(*mint.make(begins=begins, ends=ends)).read().warning(NOW)
    assert warning.startswith(said)
    assert bool(warning) == bool(said)


def test_an_ed25519_key_is_taken(mint: Any) -> None:
    certificate, _ = mint.make()
    key = ed25519.Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = certificate.with_suffix(".ed")
    path.write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    assert "is not the key of" in _refused(Files(certificate, path))
