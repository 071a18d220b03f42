"""Schemathesis, which we did not write, reads the document and finds nothing wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from microcosmos import Service

from .kinds import kinds

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "examples"
TOOL = Path(sys.executable).with_name("schemathesis")

# It guesses that an `id` of one service is the `id` of another, and what it gets from one it sends
# to the other, of whatever type: so services are looked at apart, or without that phase.
NO_GUESSES = ("--phases", "examples,coverage,fuzzing")


async def passes(site: Any, folder: Path, path: str, *flags: str) -> None:
    url = f"http://127.0.0.1:{site.port}{path}"
    fixed = ("--checks", "all", "--generation-deterministic")
    done = await asyncio.create_subprocess_exec(
        *(str(TOOL), "run", url, *fixed, *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    said = (await done.communicate())[0].decode()
    assert done.returncode == 0, said
    tested = re.search(r"(\d+) generated, (\d+) passed", said)
    assert tested is not None, said
    assert int(tested[1]) == int(tested[2]) > 50


def example(name: str) -> Service:
    spec = importlib.util.spec_from_file_location(f"served_{name}", EXAMPLES / name / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    services = [one for one in vars(module).values() if isinstance(one, Service)]
    return services[0]


async def test_every_kind_of_type_is_read_as_it_is_told(site: Any, tmp_path: Path) -> None:
    await site.bench.start(kinds)
    # PUT, PATCH and DELETE are POST again; a query string with thirty fields adds minutes.
    methods = ("--include-method", "GET", "--include-method", "POST")
    skipped = ("--exclude-operation-id", "kinds.Kinds.Echo-get")
    await passes(site, tmp_path, "/openapi/kinds.json", *NO_GUESSES, "-n", "5", *methods, *skipped)


async def test_every_method_is_as_it_is_told(site: Any, tmp_path: Path) -> None:
    await site.bench.start(example("helloworld"))
    await passes(site, tmp_path, "/openapi/helloworld.json", "-n", "10")


async def test_services_that_call_each_other_are_as_they_are_told(
    site: Any, tmp_path: Path
) -> None:
    await site.bench.start(*(example(f"shop/{name}") for name in ("catalog", "stock", "orders")))
    # The platform's own say more of what is bad input than a schema can.
    own = ("registry", "store", "config", "broker", "events")
    apart = [word for name in own for word in ("--exclude-tag", name)]
    await passes(site, tmp_path, "/openapi.json", *NO_GUESSES, "-n", "5", *apart)
