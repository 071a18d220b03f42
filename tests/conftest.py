"""Tests are plain ``async def``: each runs in a loop of its own."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import ipaddress
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Tests of the proxy and tests that fork meet in one process here, as they never do in a server:
# gRPC's handlers would start its threads again in the child, before it has become its program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """A shell lets what runs behind it ignore Ctrl-C, and ``nohup`` the end of a terminal.

    What tests start inherits that, and is sent both.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a process, an engine or a time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    if "microcosmos_runner" in pyfuncitem.funcargs:
        return None  # our plugin runs it, on the loop of its fixtures
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


_HERE = ipaddress.ip_address("127.0.0.1")


class Mint:
    """Makes certificates in a folder, each in ``<name>.pem`` with its key in ``<name>.key``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, tuple[x509.Certificate, Any]] = {}

    def make(
        self,
        name: str = "localhost",
        *,
        key: Any = None,
        begins: float = -1.0,
        ends: float = 90.0,
        signed_by: str = "",
    ) -> tuple[Path, Path]:
        """Make one for 127.0.0.1 and its name.

        Args:
            name: what it is for; also of its files.
            key: a private key; else a fresh one.
            begins: days from now.
            ends: days from now.
            signed_by: the name of one made before; else its own.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer, issuing = self._made.get(signed_by, (None, key))
        now = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(_HERE)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=ends))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=not signed_by, path_length=None), critical=True)
            .sign(issuing, hashes.SHA256())
        )
        self._made[name] = (certificate, key)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        form = serialization.Encoding.PEM
        paths[0].write_bytes(certificate.public_bytes(form))
        plain = serialization.NoEncryption()
        paths[1].write_bytes(key.private_bytes(form, serialization.PrivateFormat.PKCS8, plain))
        return paths


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path)
