"""The gateways' certificate is renewed when its files are, and only by one that can be used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.tls import Files
from microcosmos.server import certificates as module
from microcosmos.server.certificates import Certificates, files_of
from microcosmos.server.settings import Settings


class Watched:
    """Certificates that are watched, and what gateways were told."""

    def __init__(self, mint: Any, folder: Path) -> None:
        self.mint = mint
        self.files = Files(folder / "live.pem", folder / "live.key")
        self.place("first")
        self.certificates = Certificates(self.files, folder / "copies")
        self.look = asyncio.Event()
        self.renewed: list[bytes] = []
        self.failing = False

    def place(self, name: str) -> None:
        """Let the files be those of a fresh certificate."""
        certificate, key = self.mint.make(name)
        shutil.copy(certificate, self.files.certificate)
        shutil.copy(key, self.files.key)

    async def renew(self) -> None:
        if self.failing:
            raise errors.Unavailable("server", "gateway-1 could not start")
        self.renewed.append(self.certificates.copy.certificate.read_bytes())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self.certificates.watch(self.renew, self.look))
        yield
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


@pytest.fixture
def watched(mint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(module, "EVERY", 0.01)
    return Watched(mint, tmp_path)


async def test_new_files_are_taken(watched: Watched, kit: Any) -> None:
    async with watched.running():
        old = watched.certificates.copy
        watched.place("second")
        await kit.eventually(lambda: not old.certificate.exists())
        assert watched.renewed == [watched.files.certificate.read_bytes()]
        copy = watched.certificates.copy
        assert copy.key.read_bytes() == watched.files.key.read_bytes()
        assert len(list(copy.certificate.parent.parent.iterdir())) == 1
    watched.certificates.remove()
    assert not copy.certificate.parent.parent.exists()


async def test_damaged_files_are_told_and_the_old_certificate_stays(
    watched: Watched, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good = watched.files.certificate.read_bytes()
    async with watched.running():
        for damage in (b"junk", b""):
            caplog.clear()
            watched.files.certificate.write_bytes(damage)
            await kit.eventually(lambda: caplog.records)
            assert caplog.records[0].getMessage() == (
                f"--api_tls_cert_file: {watched.files.certificate} holds no certificate in PEM; "
                "the old certificate is kept"
            )
        watched.files.certificate.unlink()
        await kit.eventually(lambda: "No such file" in caplog.text)
        assert watched.certificates.copy.certificate.read_bytes() == good
        watched.place("second")
        await kit.eventually(lambda: watched.renewed)


async def test_a_certificate_whose_key_is_late_is_waited_for(
    watched: Watched, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = watched.mint.make("second")
    async with watched.running():
        shutil.copy(certificate, watched.files.certificate)
        await kit.eventually(lambda: "is not the key of" in caplog.text)
        assert not watched.renewed
        shutil.copy(key, watched.files.key)
        await kit.eventually(lambda: watched.renewed)


async def test_gateways_that_cannot_take_it_are_asked_again(
    watched: Watched, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = watched.certificates.copy
    async with watched.running():
        watched.failing = True
        watched.place("second")
        await kit.eventually(lambda: "cannot take the new certificate" in caplog.text)
        assert watched.certificates.copy == before
        assert before.certificate.exists()
        watched.failing = False
        watched.look.set()
        await kit.eventually(lambda: watched.renewed)


async def test_who_asks_is_told_that_nothing_is_new(
    watched: Watched, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with watched.running():
            watched.look.set()
            await kit.eventually(lambda: "still the same" in caplog.text)
    assert not watched.renewed


def test_a_certificate_that_has_ended_is_served_with_a_warning(
    mint: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Certificates(Files(*mint.make(begins=-9, ends=-1)), tmp_path / "copies")
    assert "clients will refuse it; renew it" in caplog.text


def test_copies_that_a_killed_server_left_are_removed(mint: Any, tmp_path: Path) -> None:
    (tmp_path / "copies" / "old").mkdir(parents=True)
    Certificates(Files(*mint.make()), tmp_path / "copies")
    assert not (tmp_path / "copies" / "old").exists()


def test_files_are_named_together_or_not_at_all() -> None:
    assert files_of(Settings()) is None
    both = files_of(Settings(api_tls_cert_file="~/c", api_tls_key_file="k"))
    assert both is not None
    assert both.certificate == Path.home() / "c"
    assert both.key == Path.cwd() / "k"
    with pytest.raises(errors.BadRequest, match="--api_tls_cert_file is of no use without"):
        files_of(Settings(api_tls_cert_file="c"))
