"""Help pages, as the reference prints them; its text has lost indentation and empty lines."""

from __future__ import annotations

import pytest

from microcosmos import __version__

from .conftest import Micro


def squeezed(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


REGISTRY = """
NAME:
micro registry
VERSION:
latest
USAGE:
micro registry [command]
COMMANDS:
deregister
getService
listServices
register
watch
"""

GET_SERVICE = """
NAME:
micro registry getService
USAGE:
micro registry getService [flags]
FLAGS:
--service string
--options_ttl int64
--options_domain string
"""


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_service_lists_its_endpoints_as_the_reference_does(micro: Micro, flag: str) -> None:
    assert squeezed(micro("registry", flag).out) == squeezed(REGISTRY)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_an_endpoint_lists_its_flags_as_the_reference_does(micro: Micro, flag: str) -> None:
    assert squeezed(micro("registry", "getService", flag).out) == squeezed(GET_SERVICE)


@pytest.mark.usefixtures("platform")
def test_endpoints_of_other_handlers_are_two_words(micro: Micro) -> None:
    lines = squeezed(micro("things", "--help").out)
    assert lines[-4:] == ["echo", "fail", "other thing", "seenMetadata"]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_micro_alone_shows_its_commands(micro: Micro, words: list[str]) -> None:
    result = micro(*words)
    lines = squeezed(result.out)
    assert result.code == 0
    assert lines[:4] == [
        "NAME:",
        "micro - A whole microservices cloud in one command",
        "VERSION:",
        __version__,
    ]
    for word in ("run", "update", "kill", "services", "logs", "status", "env", "user", "server"):
        assert any(line.startswith(f"{word} ") for line in lines)


def test_the_version(micro: Micro) -> None:
    assert micro("--version").out == f"micro version {__version__}\n"


@pytest.mark.parametrize(
    "word",
    ["call", "kill", "logs", "nats", "new", "reset", "run", "server", "services", "status"],
)
def test_each_command_has_a_page_with_typed_flags(micro: Micro, word: str) -> None:
    lines = squeezed(micro(word, "--help").out)
    assert lines[0] == "NAME:"
    assert lines[1].startswith(f"micro {word} - ")
    assert lines[2] == "USAGE:"
    assert lines[3].startswith(f"micro {word} [flags]")
    assert lines[-1].startswith("--help, -h")


def test_flags_show_their_types(micro: Micro) -> None:
    lines = squeezed(micro("run", "--help").out)
    assert any(line.startswith("--instances, -i int64 ") for line in lines)
    assert any(line.startswith("--env_vars NAME=value ") for line in lines)
    assert any(line.startswith("--watch ") for line in lines)
    assert any(line.startswith("--output, -o table|json ") for line in lines)


def test_a_group_without_its_command_shows_its_page_and_is_a_usage_error(micro: Micro) -> None:
    result = micro("user", "config")
    assert result.code == 64
    assert "delete  Delete a value" in result.err
