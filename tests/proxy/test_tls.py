"""TLS on the proxy's port: who is shown what, when the files change, and whom clients trust."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from microcosmos.base import errors
from microcosmos.base.tls import Files
from microcosmos.proxy import client, tls

CALL = ("helloworld", "Helloworld.Call", b'{"name":"Ann"}')


async def call(name: str = "World") -> str:
    return f"Hello {name}"


def shown(mint: Any, name: str = "localhost", client_ca: Path | None = None) -> tls.Shown:
    pem, key = mint.folder / f"{name}.pem", mint.folder / f"{name}.key"
    return tls.Shown(Files(pem, key, client_ca, tls.FLAGS))


async def ask(address: str, **trust: Path) -> bytes:
    chosen = client.Trust(**{name: str(path) for name, path in trust.items()})
    return await asyncio.to_thread(client.call, address, *CALL, None, 5.0, chosen)


async def serial(address: str) -> str:
    """The name in the certificate that a port shows."""
    host, _, port = address.rpartition(":")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()


async def test_a_client_that_trusts_the_authority_is_answered(proxy, service, mint) -> None:
    authority, _ = mint.make("ca")
    mint.make("localhost", signed_by="ca")
    async with proxy(service("helloworld", call), tls=shown(mint)) as door:
        assert await ask(f"https://{door.address}", ca=authority) == b'"Hello Ann"'
        with pytest.raises(errors.Unavailable, match="cannot be reached as a proxy") as caught:
            await ask(f"https://{door.address}")
        assert "certificate" in caught.value.detail.lower()
        with pytest.raises(errors.Unavailable):
            await ask(door.address)


async def test_the_authority_may_be_named_by_a_variable(proxy, service, mint, monkeypatch) -> None:
    authority, _ = mint.make()
    monkeypatch.setenv(client.CA_FILE, str(authority))
    async with proxy(service("helloworld", call), tls=shown(mint)) as door:
        assert await ask(f"https://{door.address}") == b'"Hello Ann"'


async def test_a_client_is_asked_for_a_certificate_of_its_own(proxy, service, mint) -> None:
    authority, _ = mint.make("ca")
    mint.make("localhost", signed_by="ca")
    mine, key = mint.make("ann", signed_by="ca")
    mint.make("other")
    others, others_key = mint.make("bob", signed_by="other")
    async with proxy(service("helloworld", call), tls=shown(mint, client_ca=authority)) as door:
        address = f"https://{door.address}"
        assert await ask(address, ca=authority, cert=mine, key=key) == b'"Hello Ann"'
        for trust in ({}, {"cert": others, "key": others_key}):
            with pytest.raises(errors.Unavailable):
                await ask(address, ca=authority, **trust)


async def test_new_files_are_shown_to_new_connections_and_bad_ones_never(
    proxy, service, mint, caplog
) -> None:
    mint.make("one")
    mint.make("two")
    pem, key = mint.folder / "live.pem", mint.folder / "live.key"

    def place(name: str) -> None:
        shutil.copy(mint.folder / f"{name}.pem", pem)
        shutil.copy(mint.folder / f"{name}.key", key)

    place("one")
    async with proxy(service("helloworld", call), tls=shown(mint, "live")) as door:
        assert await serial(door.address) == "CN=one"
        credentials = client.grpc.ssl_channel_credentials((mint.folder / "one.pem").read_bytes())
        target = f"localhost:{door.address.rpartition(':')[2]}"
        options = (("grpc.ssl_target_name_override", "one"),)
        async with aio.secure_channel(target, credentials, options) as standing:
            send = standing.unary_unary("/helloworld.Helloworld/Call")
            assert await send(b"{}") == b'"Hello World"'
            # The certificate comes first, and for a moment the key is another's.
            shutil.copy(mint.folder / "two.pem", pem)
            assert await serial(door.address) == "CN=one"
            assert "stays as it was: --proxy_tls_key_file:" in caplog.text
            place("two")
            assert await serial(door.address) == "CN=two"
            pem.write_text("nonsense")
            assert await serial(door.address) == "CN=two"
            key.unlink()
            assert await serial(door.address) == "CN=two"
            # Who was connected all the while has noticed nothing.
            assert await send(b"{}") == b'"Hello World"'


async def test_a_proxy_that_starts_while_the_files_are_bad_shows_the_last_good_ones(
    proxy, service, mint
) -> None:
    pem, key = mint.make()
    copy = mint.folder / "copy"
    files = Files(pem, key, None, tls.FLAGS)
    tls.Shown(files, copy)
    assert (copy / "key.pem").stat().st_mode & 0o777 == 0o600
    pem.write_text("nonsense")
    async with proxy(service("helloworld", call), tls=tls.Shown(files, copy)) as door:
        assert await serial(door.address) == "CN=localhost"
    with pytest.raises(errors.BadRequest, match="--proxy_tls_cert_file"):
        tls.Shown(files)


async def test_a_socket_of_the_same_proxy_has_no_tls(proxy, service, mint) -> None:
    mint.make()
    socket = mint.folder / "proxy.sock"
    async with proxy(service("helloworld", call), tls=shown(mint), socket=socket):
        assert await ask(f"unix:{socket}") == b'"Hello Ann"'


@pytest.mark.parametrize(
    ("trust", "detail"),
    [
        ({"ca": "nowhere.pem"}, "nowhere.pem cannot be read: No such file"),
        ({"ca": "empty.pem"}, "empty.pem is no PEM file"),
        ({"cert": "localhost.pem"}, "a client's certificate needs its key"),
    ],
)
def test_files_that_a_client_cannot_use_are_told_in_one_line(mint, monkeypatch, trust, detail):
    mint.make()
    monkeypatch.chdir(mint.folder)
    Path("empty.pem").touch()
    with pytest.raises(errors.BadRequest, match=detail):
        client.call("https://127.0.0.1:1", *CALL, trust=client.Trust(**trust))


@pytest.mark.parametrize(
    ("chosen", "detail"),
    [
        (("a.pem", "", ""), "--proxy_tls_key_file is missing"),
        (("", "a.key", ""), "--proxy_tls_cert_file is missing"),
        (("", "", "ca.pem"), "--proxy_tls_cert_file is missing"),
    ],
)
def test_a_certificate_and_its_key_go_together(chosen, detail) -> None:
    with pytest.raises(errors.BadRequest, match=detail):
        tls.files(*chosen)


def test_what_the_core_is_told_is_what_it_reads(mint) -> None:
    pem, key = mint.make()
    told = tls.environment(tls.files(str(pem), str(key), str(pem)))
    assert told == {
        "MICRO_PROXY_TLS_CERT_FILE": str(pem),
        "MICRO_PROXY_TLS_KEY_FILE": str(key),
        "MICRO_PROXY_TLS_CLIENT_CA_FILE": str(pem),
    }
    assert tls.from_environment(mint.folder / "copy", told) is not None
    assert tls.from_environment(mint.folder / "copy", tls.environment(None)) is None
