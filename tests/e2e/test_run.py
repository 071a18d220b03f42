"""`micro run` of folders: what arrives, under which name, how many, with what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .live import Live, program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FILES = '''
import json, os, sys
from pathlib import Path


@service.endpoint
async def files() -> list[str]:
    """What stands beside the program."""
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


@service.endpoint
async def text(path: str) -> str:
    return Path(path).read_text()


@service.endpoint
async def variable(name: str) -> str:
    return os.environ.get(name, "")


@service.endpoint
async def arguments() -> list[str]:
    return sys.argv[1:]
'''


def test_a_folder_arrives_whole_but_for_what_git_ignores(live: Live) -> None:
    folder = live.folder("whole", program("whole", more=FILES))
    kept = {
        "data.json": '{"a": 1}',
        "templates/page.html": "<p>ä</p>",
        "templates/deep/er/part.html": "part",
        ".hidden": "hidden",
        "a name with spaces": "spaces",
        "logs/kept.log": "kept after all",
    }
    ignored = {
        "secret.env": "",
        "logs/a.log": "",
        "templates/scratch/x": "",
        ".venv/lib/x.py": "",
        "__pycache__/main.pyc": "",
        "node_modules/x/index.js": "",
        ".git/config": "",
    }
    for name, text in {**kept, **ignored}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text("*.env\n*.log\n!kept.log\n")
    (folder / "templates" / ".gitignore").write_text("scratch/\n")
    (folder / "link.json").symlink_to("data.json")
    live.micro("run", str(folder))
    arrived = set(live.call("whole", "files"))
    expected = {"main.py", ".gitignore", "templates/.gitignore", "link.json", *kept}
    assert {name for name in arrived if "__pycache__" not in name} == expected
    assert live.call("whole", "text", "--path=templates/page.html") == "<p>ä</p>"
    assert live.call("whole", "text", "--path=link.json") == '{"a": 1}'
    live.micro("kill", "whole")


def test_the_folder_one_stands_in(live: Live) -> None:
    folder = live.folder("here", program("here"))
    said = live.micro("run", ".", cwd=folder)
    assert said.lines[0] == f"here is running at {live.url}/here"
    # The printed lines can be pasted.
    assert live.web.get(said.lines[1].split("curl ")[1].strip("'")).json()["name"] == "John"
    assert live.call(*said.lines[2].split()[1:])["name"] == "John"
    live.micro("kill", ".", cwd=folder)
    live.refused(4, "status", "here")


def test_a_bare_name_without_a_base_url_is_an_example(live: Live) -> None:
    said = live.micro("run", "helloworld", "--name", "bare")
    assert said.lines[2] == "micro bare --name=John"
    assert live.call("bare", "--name=Ann") == {"msg": "Hello Ann"}
    assert live.status("bare")["source"] == "examples/helloworld"
    live.micro("kill", "bare")


def test_a_name_of_ones_own_wins_over_the_folders_and_the_programs(live: Live) -> None:
    folder = live.folder("plain", program("plain"))
    live.micro("run", str(folder), "--name", "v1.chosen")
    assert live.web.get("/v1/chosen/call").json()["says"] == "one"
    assert live.call("v1.chosen")["says"] == "one"
    assert "plain" not in live.micro("services").lines
    live.micro("kill", "v1.chosen")


def test_three_instances_are_three_processes_that_take_turns(live: Live) -> None:
    with live.running("many", program("many"), "--instances", "3") as folder:
        pids = [live.web.get("/many").json()["pid"] for _ in range(12)]
        assert len(set(pids)) == 3
        assert len(live.micro("logs", "many").lines) == 3
        (found,) = live.web.get("/registry/getService?service=many").json()["services"]
        assert len(found["nodes"]) == 3
        live.micro("update", str(folder), "-i", "1")
        pids = [live.web.get("/many").json()["pid"] for _ in range(6)]
        assert len(set(pids)) == 1


def test_the_environment_and_the_arguments_are_the_users(live: Live) -> None:
    flags = ("--env_vars", "A=1,B=two words", "--env-vars", "C=x=y", "--args", "--loud 'a b'")
    with live.running("told", program("told", more=FILES), *flags):
        for name, value in {"A": "1", "B": "two words", "C": "x=y"}.items():
            assert live.call("told", "variable", f"--name={name}") == value
        assert live.call("told", "arguments") == ["--loud", "a b"]
        for name in ("NATS_URL", "NATS_CREDS", "MICRO_HOME"):
            assert live.call("told", "variable", f"--name={name}")
        assert live.call("told", "variable", "--name=SSH_AUTH_SOCK") == ""
    assert "A=1" not in json.dumps(live.micro("status", "-o", "json").json)


def test_a_command_in_place_of_an_entry(live: Live) -> None:
    folder = live.folder("odd", start_sh="exec python app/serve.py\n")
    (folder / "app").mkdir()
    (folder / "app" / "serve.py").write_text(program("odd"))
    live.micro("run", str(folder), "--command", "sh start.sh")
    assert live.call("odd")["says"] == "one"
    live.micro("kill", "odd")


def test_an_entry_that_pyproject_names(live: Live) -> None:
    toml = '[project]\nname = "entry"\nversion = "1"\n[project.scripts]\nentry = "pack.serve:run"\n'
    code = program("entry") + "\n\ndef run():\n    service.run()\n"
    folder = live.folder("entry", pyproject_toml=toml, src__pack__serve_py=code)
    live.micro("run", str(folder))
    assert live.call("entry")["says"] == "one"
    live.micro("kill", "entry")


def test_a_name_that_is_taken_is_told_and_force_replaces_it(live: Live) -> None:
    with live.running("taken", program("taken")) as folder:
        line = live.refused(127, "run", str(folder))
        assert "taken is owned by admin" in line
        assert "--force" in line
        (folder / "main.py").write_text(program("taken", "two"))
        live.micro("run", str(folder), "--force")
        assert live.call("taken")["says"] == "two"


def test_of_two_who_run_the_same_name_at_once_one_is_refused(live: Live) -> None:
    folder = live.folder("race", program("race"))
    typed = [live.typing("run", str(folder)) for _ in range(2)]
    lucky, late = sorted(live.ended(one) for one in typed)
    assert lucky.code == 0, lucky
    assert late.code == 127, late
    assert "race is owned by admin" in late.err
    live.micro("kill", "race")


def test_what_failed_can_be_run_again(live: Live) -> None:
    folder = live.folder("again", "raise SystemExit('not yet')\n")
    assert live.type("run", str(folder)).code == 127
    (folder / "main.py").write_text(program("again"))
    live.micro("run", str(folder))
    assert live.call("again")["says"] == "one"
    # Now it is somebody's.
    assert "again is owned by admin" in live.refused(127, "run", str(folder))
    live.micro("kill", "again")


def test_run_returns_at_once_when_detached(live: Live) -> None:
    folder = live.folder("slow", "import time\ntime.sleep(600)\n")
    assert live.micro("run", str(folder), "--detach").lines[0].startswith("slow is ")
    assert live.status("slow")["status"] in ("pending", "building", "starting")
    live.micro("kill", "slow")


def test_a_sync_handler_and_a_class_of_ones_own(live: Live) -> None:
    more = """
import msgspec


class Point(msgspec.Struct):
    x: int
    y: float = 0.5


@service.endpoint
def swap(points: list[Point], tags: dict[str, str] = {}) -> list[Point]:
    return points[::-1]
"""
    with live.running("typed", program("typed", more=more)):
        points = [{"x": 1, "y": 1.5}, {"x": 2}]
        answer = live.web.post("/typed/swap", json={"points": points}).json()
        assert answer == [{"x": 2, "y": 0.5}, {"x": 1, "y": 1.5}]
        told = live.web.post("/typed/swap", json={"points": [{"x": "one"}]})
        assert told.status_code == 400
        assert "`$.points[0].x`" in told.json()["Detail"]


def test_a_large_data_file_arrives(live: Live, tmp_path: Path) -> None:
    with live.running("large", program("large", more=FILES)) as folder:
        assert "blob" not in live.call("large", "files")
        (folder / "blob").write_text("x" * 9 * 1024 * 1024)
        live.micro("update", str(folder))
        assert "blob" in live.call("large", "files")
