"""Services run: created, updated, crashed, restarted, adopted, killed, with real processes."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.registry.interface import Node, Service
from microcosmos.runtime.deployment import CreateRequest, Options, UpdateRequest
from microcosmos.runtime.logs import LogsRequest
from microcosmos.runtime.settings import Settings
from microcosmos.runtime.source import Source

from .platform import SERVE, World, until, world

CRASH = "print('about to fail', flush=True)\nraise ValueError('no such luck')\n"


async def test_a_folder_runs_and_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        record = await here.run(here.write("greeter"), Options(env_vars={"COLOUR": "red"}))
        assert (record.status, record.ready, record.error) == ("running", 1, "")
        assert (record.version, record.build) == ("latest", "n/a")
        assert record.metadata() == {"owner": "admin", "group": "micro"}
        assert [version.hash for version in record.history] == [record.hash]
        (process,) = here.alive("greeter")
        env = here.spawner.spec(process).env
        assert env["COLOUR"] == "red"
        assert env["MICRO_SERVICE_NAME"] == "greeter"
        assert env["MICRO_SERVICE_VERSION"] == "latest"
        assert env["MICRO_NAMESPACE"] == "micro"
        assert env["MICRO_REPLICA"] == process
        assert env["MICRO_HOME"] == str(here.home.path)
        assert env["NATS_CREDS"] == f"/creds/{process}"
        assert env["PYTHONUNBUFFERED"] == "1"
        assert "PYTHONDONTWRITEBYTECODE" not in env
        # Variables may be secrets: others see their names only.
        assert (await runtime.read("greeter"))[0].options.env_vars == {"COLOUR": "[secret]"}


async def test_replicas_really_run(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        record = await here.run(here.write("trio"), Options(instances=3))
        assert record.ready == 3
        assert len(here.alive("trio")) == 3
        assert len({*here.alive("trio")}) == 3
        for number in range(3):
            assert "ready" in here.log("trio", number)


async def test_a_taken_name_is_refused_and_force_replaces(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        await here.run(here.write("one", version="a"))
        with pytest.raises(errors.Conflict, match=r"one is owned by admin.*--force"):
            await here.run(here.write("one", version="b"))
        await here.run(here.write("one", version="b"), force=True)
        assert "version b" in here.log("one")
        await until(lambda: len(here.alive("one")) == 1, "the old one to drain")


async def test_reserved_names_and_bad_options_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core(Settings(reserved=frozenset({"store"}))) as it:
        example = Source(kind="example", location="store")
        with pytest.raises(errors.Conflict, match="platform's own"):
            await it.create(CreateRequest(source=example))
        for options, what in [
            (Options(instances=0), "instances"),
            (Options(env_vars={"A B": ""}), "A B"),
            (Options(env_vars={"MICRO_REPLICA": "x"}), "MICRO_REPLICA"),
            (Options(args=["a\0b"]), "NUL"),
            (Options(metadata={"source": "x"}), "source"),
        ]:
            with pytest.raises(errors.BadRequest, match=what):
                await it.create(CreateRequest(source=example, name="fine", options=options))
        folder = Source(kind="folder", location="/somewhere")
        with pytest.raises(errors.BadRequest, match="uploaded"):
            await it.create(CreateRequest(source=folder))
        with pytest.raises(errors.NotFound, match="upload"):
            await it.create(CreateRequest(source=folder, upload="0" * 32))
        assert await it.read() == []


async def test_a_crash_restarts_and_shows_its_last_line(tmp_path: Path) -> None:
    settings = Settings(backoff=0.5, drain=5)
    async with world(tmp_path) as here, here.core(settings):
        await here.run(here.write("fragile", {"main.py": SERVE.replace("VERSION", "1")}))
        (first,) = here.alive("fragile")
        node = (await here.registry.get_service("fragile"))[0].nodes[0].id
        assert node == first
        await here.spawner.signal(first, signal.SIGKILL)
        record = await here.status("fragile", lambda it: it.status == "error")
        assert record.error.startswith("killed by SIGKILL; its last line: ready fragile-")
        with pytest.raises(errors.NotFound):
            await here.registry.get_service("fragile")
        record = await here.status("fragile", lambda it: it.status == "running")
        assert record.error == ""
        assert here.alive("fragile") != [first]


async def test_a_program_that_fails_at_once_is_an_error_and_is_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        record = await here.run(here.write("broken", {"main.py": CRASH}))
        assert record.status == "error"
        assert record.error == "ValueError: no such luck"
        assert record.output[0] == "about to fail"
        assert record.metadata()["error"] == record.error
        await until(lambda: len(here.spawner.names("0")) >= 3, "further attempts")
        record = await here.update("broken", here.write("broken", version="ok"))
        assert (record.status, record.error) == ("running", "")
        assert len(here.alive("broken")) == 1


async def test_a_program_that_ends_well_is_started_again_too(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        record = await here.run(here.write("brief", {"main.py": ""}))
        assert (record.status, record.error) == ("error", "exited with status 0")
        await until(lambda: len(here.spawner.names("0")) >= 2, "a further attempt")


async def test_a_program_that_never_answers_is_ended(tmp_path: Path) -> None:
    silent = "import time\nprint('hm', flush=True)\ntime.sleep(60)\n"
    # Until it has had the time to say something, which on a busy machine takes longer.
    for ready in (0.5, 2, 8, 30):
        settings = Settings(ready=ready, backoff=60)
        async with world(tmp_path / f"{ready:g}") as here, here.core(settings):
            record = await here.run(here.write("silent", {"main.py": silent}))
            assert record.status == "error"
            assert here.alive("silent") == []
        early = f"did not answer within {ready:g} s as service silent"
        if record.error != early:
            break
    assert record.error == f"{early}; its last line: hm"


async def test_a_foreign_program_is_ready_when_a_node_of_the_service_appears(
    tmp_path: Path,
) -> None:
    options = Options(command=f"{sys.executable} -c", args=["import time; time.sleep(60)"])
    async with world(tmp_path) as here, here.core() as runtime:
        old = Service(name="foreign", nodes=[Node(id="somebody else")])
        await here.registry.register(old)
        folder = here.write("foreign", {"data.txt": "x"})
        source = Source(kind="folder", location=str(folder))
        record = await runtime.create(
            CreateRequest(source=source, upload=await here.upload(folder), options=options)
        )
        await until(lambda: here.alive("foreign"), "the process")
        record = await here.status("foreign", lambda it: it.status == "starting")
        await here.registry.register(Service(name="foreign", nodes=[Node(id="new")]))
        record = await here.settled(record)
        assert record.status == "running"
        await runtime.delete("foreign")
        (left,) = await here.registry.get_service("foreign")
        assert [node.id for node in left.nodes] == ["somebody else"]


async def test_a_service_under_another_name_is_known_by_its_replica(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        folder = here.write("shown", {"main.py": "import time\ntime.sleep(60)\n"})
        source = Source(kind="folder", location=str(folder))
        request = CreateRequest(source=source, upload=await here.upload(folder))
        record = await runtime.create(request)
        await until(lambda: here.alive("shown"), "the process")
        node = Node(id="n", metadata={"micro.replica": here.alive("shown")[0]})
        await here.registry.register(Service(name="its.own.name", nodes=[node]))
        assert (await here.settled(record)).status == "running"


async def test_backoff_doubles_up_to_its_limit_and_never_gives_up(tmp_path: Path) -> None:
    from microcosmos.base.clock import ManualClock

    clock = ManualClock()
    settings = Settings(backoff=1, backoff_limit=30, ready=1000)
    async with world(tmp_path, clock) as here, here.core(settings) as runtime:
        await here.run(here.write("hopeless", {"main.py": CRASH}))
        for attempt, delay in enumerate([1, 2, 4, 8, 16, 30, 30], 1):
            wait = float(delay)
            await until(partial(sleeping, clock, wait), f"the wait of {delay} s")
            (record,) = await runtime.read("hopeless")
            assert (record.status, record.error) == ("error", "ValueError: no such luck")
            await clock.advance(delay - 0.5)
            tried = len(here.spawner.names("0"))
            assert tried == attempt
            await clock.advance(0.5)
            await until(partial(more, here, tried), "the next attempt")


def more(here: World, tried: int) -> bool:
    return len(here.spawner.names("0")) > tried


def sleeping(clock: object, delay: float) -> bool:
    """Whether someone waits for about that long on the clock."""
    due = clock._now + delay  # type: ignore[attr-defined]
    waits = clock._sleepers  # type: ignore[attr-defined]
    return any(abs(when - due) < 0.01 and not wake.done() for when, _, wake in waits)


async def test_a_rolling_update_starts_the_new_before_it_drains_the_old(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        await here.run(here.write("rolled", version="a"))
        (old,) = here.alive("rolled")
        record = await here.update("rolled", here.write("rolled", version="b"))
        assert (record.status, record.error) == ("running", "")
        assert len(record.history) == 2
        await until(lambda: old not in here.alive("rolled"), "the old one to drain")
        assert len(here.alive("rolled")) == 1
        lines = here.log("rolled").splitlines()
        assert [line.split()[0] for line in lines] == [
            "version",
            "ready",
            "version",
            "ready",
            "drained",
        ]
        assert lines[2] == "version b"


async def test_a_failed_update_leaves_the_old_running_and_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        first = await here.run(here.write("steady", version="a"))
        alive = here.alive("steady")
        record = await here.update("steady", here.write("steady", {"main.py": CRASH}))
        assert record.status == "running"
        assert record.error == ("update failed, the version before stays: ValueError: no such luck")
        assert record.output[-1] == "ValueError: no such luck"
        assert record.hash == first.hash
        assert here.alive("steady") == alive
        no_entry = here.write("empty", {"readme.md": "x"})
        record = await here.update("steady", no_entry)
        assert "no entry: found readme.md" in record.error
        assert record.build == "failed"
        assert here.alive("steady") == alive
        record = await here.update("steady", here.write("again", version="c"))
        assert (record.error, record.build) == ("", "n/a")


async def test_a_new_update_takes_the_place_of_one_under_way(tmp_path: Path) -> None:
    slow = "import time\nprint('slow', flush=True)\ntime.sleep(60)\n"
    async with world(tmp_path) as here, here.core() as runtime:
        await here.run(here.write("busy", version="a"))
        folder = here.write("slow", {"main.py": slow})
        source = Source(kind="folder", location=str(folder))
        upload = await here.upload(folder)
        await runtime.update(UpdateRequest(name="busy", source=source, upload=upload))
        await until(lambda: "slow" in here.log("busy"), "the slow one")
        record = await here.update("busy", here.write("busy", version="b"))
        assert (record.status, record.error) == ("running", "")
        assert "version b" in here.log("busy")
        await until(lambda: len(here.alive("busy")) == 1, "the end of the slow one")


async def test_instances_change_with_an_update(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        folder = here.write("wide")
        await here.run(folder)
        source = Source(kind="folder", location=str(folder))
        with pytest.raises(errors.BadRequest, match="micro update"):
            await runtime.update(UpdateRequest(name="wide"))
        # A folder need not be uploaded again for that alone.
        record = await here.settled(await runtime.update(UpdateRequest(name="wide", instances=3)))
        assert (record.ready, record.options.instances) == (3, 3)
        upload = await here.upload(folder)
        request = UpdateRequest(name="wide", source=source, upload=upload, instances=2)
        record = await here.settled(await runtime.update(request))
        assert (record.ready, record.options.instances) == (2, 2)
        # The same content is no new version.
        assert len(record.history) == 1


async def test_kill_stops_and_forgets(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        await here.run(here.write("doomed"))
        record = await runtime.delete("doomed")
        assert record.status == "stopped"
        assert here.alive("doomed") == []
        assert await runtime.read() == []
        assert not (here.home.server / "sources" / "doomed").exists()
        assert here.log("doomed") == ""
        with pytest.raises(errors.NotFound, match="micro status"):
            await runtime.delete("doomed")
        with pytest.raises(errors.NotFound):
            await runtime.wait("doomed")
        assert await here.store.table("runtime").list() == []
        await here.run(here.write("doomed"))


async def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = SERVE.replace("sys.exit(0)", "pass").replace("VERSION", "1")
    async with world(tmp_path) as here, here.core(Settings(drain=0.3)) as runtime:
        await here.run(here.write("stubborn", {"main.py": stubborn}))
        await runtime.delete("stubborn")
        assert here.alive("stubborn") == []


async def test_a_restarted_core_adopts_what_runs(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.core():
            await here.run(here.write("lasting"), Options(instances=2))
            alive = here.alive("lasting")
        assert here.alive("lasting") == alive
        async with here.core() as runtime:
            record = await here.status("lasting", lambda it: it.ready == 2)
            assert record.status == "running"
            assert here.alive("lasting") == alive
            # An adopted one is watched like any other.
            await here.spawner.signal(alive[0], signal.SIGKILL)
            await here.status("lasting", lambda it: it.ready == 1)
            await here.status("lasting", lambda it: it.ready == 2)
            await runtime.delete("lasting")
            assert here.alive("lasting") == []


async def test_services_come_back_after_a_reboot(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.core():
            await here.run(here.write("phoenix"))
        for process in here.alive("phoenix"):
            await here.spawner.signal(process, signal.SIGKILL)
        await until(lambda: not here.alive("phoenix"), "the end")
        async with here.core():
            await here.status("phoenix", lambda it: it.ready == 1)
            assert len(here.alive("phoenix")) == 1


async def test_an_update_goes_on_after_the_core_died(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.core() as runtime:
            await here.run(here.write("moving", version="a"))
            folder = here.write("moving", version="b")
            source = Source(kind="folder", location=str(folder))
            upload = await here.upload(folder)
            await runtime.update(UpdateRequest(name="moving", source=source, upload=upload))
        async with here.core():
            await here.status("moving", lambda it: len(it.history) == 2)
            assert "version b" in here.log("moving")
            await until(lambda: len(here.alive("moving")) == 1, "the old one to drain")


async def test_left_overs_of_a_dead_core_are_stopped_and_others_left_alone(tmp_path: Path) -> None:
    from microcosmos.runtime.interface import ProcessSpec

    async with world(tmp_path) as here:
        for name in ["ghost-01234567-0-abcdef", "gateway-0"]:
            argv = [sys.executable, "-c", "import time; time.sleep(60)"]
            log = str(tmp_path / "log")
            await here.spawner.spawn(
                ProcessSpec(name=name, argv=argv, env=dict(os.environ), cwd="/", log=log)
            )
        async with here.core():
            assert [*await here.spawner.running()] == ["gateway-0"]


async def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core():
        folder = here.write("odd", {"run.sh": "no shebang"})
        record = await here.run(folder, Options(command="./nothing"))
        assert "there is no program ./nothing" in record.error
        record = await here.run(folder, Options(command="./run.sh"), force=True)
        assert "could not be started" in record.error
        assert record.status == "error"


async def test_logs_of_a_service_and_of_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        await here.run(here.write("chatty", version="a"))
        answer = await runtime.logs(LogsRequest(name="chatty"))
        assert [line.text.split()[0] for line in answer.lines] == ["version", "ready"]
        with pytest.raises(errors.NotFound):
            await runtime.logs(LogsRequest(name="nothing"))


async def test_a_bundled_example_runs(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        missing = Source(kind="example", location="there-is-none")
        record = await here.settled(await runtime.create(CreateRequest(source=missing)))
        assert "there is no example there-is-none; there are: " in record.error
        assert "helloworld" in record.error
        assert str(missing) == "examples/there-is-none"


async def test_watching_closely_never_leaves_the_record_behind(tmp_path: Path) -> None:
    """Updates that come while the one before still drains: each is what serves, and on record."""
    slow_to_end = SERVE.replace("sys.exit(0)", "time.sleep(0.5); sys.exit(0)")
    async with world(tmp_path) as here:
        async with here.core():
            for version in range(4):
                text = slow_to_end.replace("VERSION", str(version))
                folder = here.write("watched", {"main.py": text})
                record = await (here.update("watched", folder) if version else here.run(folder))
                assert (record.status, record.error) == ("running", "")
                assert len(record.history) == version + 1
            (alive,) = [it for it in here.alive("watched") if record.generation in it]
        async with here.core():
            await here.status("watched", lambda it: it.ready == 1)
            assert alive in here.alive("watched")
            await until(lambda: here.alive("watched") == [alive], "the others to end")
            assert here.log("watched").splitlines().count("version 3") == 1


async def test_a_full_disk_refuses_and_keeps_what_runs(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        await here.run(here.write("kept"))
        alive = here.alive("kept")
        here.disk.full = True
        with pytest.raises(errors.Unavailable):
            await here.update("kept", here.write("kept", version="b"))
        with pytest.raises(errors.Unavailable):
            await here.run(here.write("new"))
        assert [it.name for it in await runtime.read()] == ["kept"]
        here.disk.full = False
        record = await here.status("kept", lambda it: it.status == "running")
        assert here.alive("kept") == alive
        record = await here.update("kept", here.write("kept", version="c"))
        assert (record.status, record.error) == ("running", "")
