"""The guest, compiled once; images of its memory, and what fresh ones have of their own."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

from microcosmos.base import errors
from microcosmos.functions.interface import Limits
from microcosmos.functions.quickjs.failures import Ended
from microcosmos.functions.wasm import compiled, guest
from microcosmos.functions.wasm.image import Image
from microcosmos.functions.wasm.instance import Instance
from microcosmos.functions.wasm.limits import QUIET, ROOM, TOUCHED
from microcosmos.functions.wasm.machine import Machine
from microcosmos.functions.wasm.origin import Origin
from microcosmos.functions.wasm.realm import Realm
from microcosmos.functions.wasm.watch import Watch

from ..engines.workers import COMPILED

HEAD = "GET\nhttp://functions.test/probe/x\n\n\nx"
SEED = base64.b64encode(bytes(32)).decode()


@pytest.fixture(scope="module")
def origin() -> Origin:
    return Origin(Machine(COMPILED))


@pytest.fixture
def image(origin: Origin) -> Iterator[Image]:
    """Of a function that counts, in a realm and beyond."""
    realm = Realm(origin, Limits(cpu=1.0))
    realm.setup("{}", "[]", SEED)
    assert realm.source(
        "let n = 0; const handler = () => [++n, Math.random(), globalThis.kept = n]"
    )
    image = realm.image()
    realm.close()
    yield image
    image.close()


class TestGuest:
    def test_what_is_compiled_is_read_and_no_thread_is_started(self) -> None:
        before = threading.active_count(), len(os.listdir("/proc/self/task"))  # noqa: PTH208
        Machine(COMPILED)
        assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before  # noqa: PTH208

    def test_a_broken_file_is_made_again(self, tmp_path: Path) -> None:
        (whole,) = [path for path in COMPILED.iterdir() if path.suffix == ".cwasm"][:1]
        for path in COMPILED.glob("*.cwasm"):
            (tmp_path / path.name).write_bytes(b"no machine code at all")
        assert guest.module(guest.engine(), tmp_path).exports
        assert (tmp_path / whole.name).stat().st_size > 1_000_000

    def test_who_cannot_write_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(errors.Unavailable, match=r"is not compiled: .*file"):
            guest.module(guest.engine(), tmp_path / "file" / "wasm")

    async def test_it_is_there_before_workers_want_it(self, tmp_path: Path) -> None:
        await compiled.ahead(tmp_path / "wasm")
        made = compiled.path(tmp_path / "wasm")
        before = made.stat().st_mtime_ns
        await compiled.ahead(tmp_path / "wasm")
        assert made.stat().st_mtime_ns == before
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(errors.Unavailable, match=r"is not compiled: .*file"):
            await compiled.ahead(tmp_path / "file" / "wasm")

    def test_to_ask_for_it_loads_no_engine(self) -> None:
        code = "import sys, microcosmos.functions.wasm.compiled; print('wasmtime' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout == b"False\n"

    def test_importing_it_starts_nothing(self) -> None:
        threads = "print(len(os.listdir('/proc/self/task')))"
        code = f"import os, microcosmos.functions.wasm.worker; {threads}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout == b"1\n"


class TestRealms:
    def test_each_begins_where_loading_ended(self, origin: Origin, image: Image) -> None:
        said = []
        for _ in range(3):
            realm = Realm(origin, Limits(cpu=1.0), image)
            said.append([realm.run(1, HEAD), realm.run(2, HEAD)])
            realm.close()
        assert all(one.startswith("j[1,") and two.startswith("j[2,") for one, two in said)
        assert len({one for pair in said for one in pair}) == 6

    def test_without_randomness_of_its_own_it_is_the_same_again(
        self, origin: Origin, image: Image
    ) -> None:
        said = set()
        for _ in range(2):
            realm = Realm(origin, Limits(cpu=1.0), image, anew=False)
            said.add(realm.run(1, HEAD))
            realm.close()
        assert len(said) == 1

    def test_one_goes_on_when_its_image_is_gone(self, origin: Origin, image: Image) -> None:
        realm = Realm(origin, Limits(cpu=1.0), image)
        image.close()
        assert (realm.run(1, HEAD) or "").startswith("j[1,")
        realm.close()

    def test_all_memory_is_counted_and_has_an_end(self, origin: Origin, image: Image) -> None:
        machine = origin.machine
        before = machine.taken
        realms = []
        while machine.taken + TOUCHED <= ROOM:
            realms.append(Realm(origin, Limits(cpu=1.0), image))
        with pytest.raises(MemoryError):
            Realm(origin, Limits(cpu=1.0), image)
        assert 1000 < len(realms) < 3000
        assert ROOM // 2 < machine.taken - before <= ROOM
        for realm in realms:
            realm.close()
        assert machine.taken == before

    def test_a_realm_whose_time_is_up_is_ended(self, origin: Origin) -> None:
        realm = Realm(origin, Limits())
        realm.setup("{}", "[]", SEED)
        realm.limit(0.05)
        began = time.process_time()
        with pytest.raises(Ended, match="interrupted"):
            realm.source("for (;;);")
        assert 0.04 < time.process_time() - began < 1
        realm.close()
        # Who comes next has all of its own time.
        other = Realm(origin, Limits())
        other.setup("{}", "[]", SEED)
        assert other.source("const handler = () => 1") == "handler "
        other.close()


class TestInstance:
    @pytest.mark.parametrize(("at", "size"), [(2**31, 4), (-4, 8), (2**32 - 1, 2), (0, 2**32 - 1)])
    def test_nobody_believes_where_the_guest_says_something_is(
        self, origin: Origin, at: int, size: int
    ) -> None:
        instance = Instance(origin.machine, 64 << 20)
        with pytest.raises(Ended):
            instance.read(at, size)
        if size < 100:
            with pytest.raises(Ended):
                instance.write(at, bytes(size))
        instance.close()

    def test_a_guest_of_another_version_is_told(self, origin: Origin) -> None:
        instance = Instance(origin.machine, 64 << 20)
        with pytest.raises(LookupError, match="another version"):
            instance.call(b"dance")
        instance.close()

    def test_it_has_nothing_of_the_system_but_time_and_randomness(self, origin: Origin) -> None:
        wanted = {
            (found.module, found.name)
            for found in guest.module(wasmtime.Engine(_config()), COMPILED).imports
        }
        assert {module for module, _ in wanted} == {"env", "wasi_snapshot_preview1"}
        assert {name for module, name in wanted if module != "env"} == {
            *("clock_time_get", "environ_get", "environ_sizes_get", "fd_close", "fd_fdstat_get"),
            *("fd_seek", "fd_write", "proc_exit", "random_get"),
        }


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    config.epoch_interruption = True
    return config


class TestWatch:
    def test_it_ends_what_is_late_and_nothing_else(self) -> None:
        ended = threading.Event()
        watch = Watch(ended.set)
        watch.begin(0.01)
        watch.over()
        _burn(0.05)
        assert not ended.is_set()
        watch.begin(0.02)
        _burn(0.2, ended)
        assert ended.is_set()
        watch.over()

    def test_it_looks_again_after_a_quiet_time(self) -> None:
        ended = threading.Event()
        watch = Watch(ended.set)
        watch.begin(0.01)
        watch.over()
        time.sleep(QUIET + 0.3)
        watch.begin(0.02)
        _burn(1, ended)
        assert ended.is_set()


def _burn(seconds: float, until: threading.Event | None = None) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end and not (until and until.is_set()):
        pass
