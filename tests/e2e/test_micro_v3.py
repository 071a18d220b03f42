"""A client built for Micro v3, with stubs from its .proto files, runs a service on our server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .live import Live, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROTOS = Path(__file__).parent / "protos"

SAYS = """
import os


@service.endpoint
async def call(name: str = "World") -> dict[str, str]:
    print("said to", name, flush=True)
    return {"msg": f"{os.environ['GREETING']} {name}"}
"""


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    files = [path.name for path in PROTOS.glob("*.proto")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    command += [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *files]
    subprocess.run(command, check=True)
    return tmp_path


def test_a_client_of_micro_v3_uploads_runs_follows_and_deletes(live: Live, stubs: Path) -> None:
    folder = live.folder("fromv3", program("fromv3", more=SAYS))
    ran = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("micro_v3.py"),
            live.info.addresses["proxy"],
            folder,
            live.micro("user", "token").out.strip(),
        ],
        env={**os.environ, "PYTHONPATH": str(stubs)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert {"registry", "runtime"} <= set(seen.pop("core"))
    assert seen.pop("logs") >= 1
    assert seen.pop("requests") >= 1
    assert "Fromv3.Call" in seen.pop("endpoints")
    assert seen == {
        "upload": "source",
        "read": ["fromv3", "latest", "source://fromv3:latest", "admin"],
        "answer": {"msg": "Hi Ann"},
        "followed": True,
        "health": "ok",
        "build": [],
        "gone": [
            *("NOT_FOUND", "registry", 404),
            "service fromv3 not found; `micro services` lists them",
        ],
        "deleted": [
            *("NOT_FOUND", "runtime", 404),
            "nothing is deployed as fromv3; micro status lists what is",
        ],
        "quota": [
            *("UNIMPLEMENTED", "runtime", 501),
            "there is no resource namespace; use a service",
        ],
        "empty": [
            *("INVALID_ARGUMENT", "runtime", 400),
            "resource.service: name what should run",
        ],
        "health_of_nobody": [
            *("NOT_FOUND", "nobody", 404),
            "service nobody not found; `micro services` lists them",
        ],
        "watched": [["create", "fromv3"], ["delete", "fromv3"]],
    }
