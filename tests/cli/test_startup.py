"""How quickly the command line starts, and what it imports for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = 200
HEAVY = {"nats", "grpc", "google.protobuf", "rich", "granian", "uvloop", "tarfile", "pathspec"}

_LOADED = """
import sys
from microcosmos.cli.main import main
assert main({words}) == 0
print(*sys.modules, sep="\\n", file=sys.stderr)
"""


def loaded(*words: str) -> set[str]:
    """The modules that a command line has imported when it ends."""
    code = _LOADED.format(words=list(words))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stderr.split())


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    "words",
    [("services",), ("helloworld", "--name=x"), ("call", "helloworld", "call"), ("env",), ("-h",)],
)
def test_nothing_heavy_is_imported_for_a_call_on_this_host(words: tuple[str, ...]) -> None:
    assert HEAVY & loaded(*words) == set()


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    "words",
    [
        ("services",),
        ("env",),
        ("--help",),
    ],
)
def test_no_event_loop_is_imported(words: tuple[str, ...]) -> None:
    assert "asyncio" not in loaded(*words)


@pytest.mark.usefixtures("home")
def test_the_list_of_commands_imports_none_of_them() -> None:
    rooms = {name for name in loaded("--help") if name.endswith(".cli") and name.count(".") > 1}
    assert rooms == set()


@pytest.mark.usefixtures("platform")
def test_services_are_listed_by_few_modules() -> None:
    """What it takes is time to import: `make bench` measures that, and here it is counted."""
    found = len(loaded("services"))
    assert found < MODULES, found
