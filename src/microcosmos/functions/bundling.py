"""Makes several files, and the npm packages that they import, one program.

Deno does it twice over: ``deno info`` says what imports what, and where; nothing else is done if
any of that leaves the function's files or names a package without its exact version. Then
``deno bundle`` links. No code of a function or a package is run, its scripts for installing
included.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import msgspec

from microcosmos.base import errors

from . import deno, walls
from .interface import Finding, Language
from .packages import EXACT, settings_of
from .registries import files_of, ports_of
from .walls.run import command as within

TIME = 60.0
"""Seconds that a bundle may take, its packages' download included."""

MAX_BUNDLE = 4 * 1024 * 1024
"""The most bytes of a bundle."""

AT_ONCE = 2
"""Bundles that are made at a time; others wait."""

_MEMORY = 1024 * 1024 * 1024
_MAX_OUTPUT = 4 * 1024 * 1024

_IMPORTS = re.compile(r"\bimport\b|\bfrom\s*[\"']")
_PLACE = re.compile(r"\bat (file://\S+?):(\d+):(\d+)\s*$", re.MULTILINE)
_ERROR = re.compile(r"^error: (?P<message>.*(?:\n(?!error: |    at ).*)*)", re.MULTILINE)
_PACKAGE = re.compile(r"Could not find constraint '(?P<package>[^']+)'")
_MISSING_EXPORT = re.compile(r'No matching export in "(?P<module>[^"]+)" for import "(?P<name>.+)"')
_UNRESOLVED = re.compile(r"Could not resolve ['\"](?P<specifier>.+)['\"]")

_SUFFIXES: Mapping[Language, tuple[str, ...]] = {
    "javascript": (".js", ".mjs", ".jsx"),
    "typescript": (".ts", ".mts", ".tsx"),
    "python": (".py",),
}

_PASSED = (
    "PATH",
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "DENO_CERT",
    "DENO_TLS_CA_STORE",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


class Bundled(msgspec.Struct, frozen=True, kw_only=True):
    """One program, or what keeps the files from being one.

    Attributes:
        code: the program.
        language: of it: what was bundled is JavaScript, a file that imports nothing stays as it is.
        findings: what is wrong; there is no code then.
    """

    code: str = ""
    language: Language = "javascript"
    findings: Sequence[Finding] = ()


class _At(msgspec.Struct, frozen=True):
    line: int = 0
    character: int = 0


class _Span(msgspec.Struct, frozen=True):
    start: _At = _At()


class _Target(msgspec.Struct):
    specifier: str = ""
    error: str = ""
    span: _Span = _Span()


class _Import(msgspec.Struct):
    specifier: str
    code: _Target | None = None


class _Module(msgspec.Struct):
    specifier: str
    error: str = ""
    dependencies: list[_Import] = []


class _Graph(msgspec.Struct):
    modules: list[_Module] = []


class Bundler:
    """Bundles with Deno, in processes of its own.

    The registry of npm packages is the one that npm itself is set to, by ``NPM_CONFIG_REGISTRY``
    or ``~/.npmrc``; the linker (esbuild) is fetched from there, too, when it is first needed.

    Args:
        folder: where packages that were fetched are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._room = asyncio.Semaphore(AT_ONCE)

    async def bundle(self, files: Mapping[str, str], main: str, language: Language) -> Bundled:
        """Make one program of files.

        Args:
            files: texts by path, ``/`` between folders.
            main: the path of the one that begins.
            language: of that one.

        Raises:
            errors.Unavailable: Deno or the linker is not installed, or cannot be fetched.
        """
        if main not in files:
            return _wrong(Finding(file=main, message="there is no such file"))
        if _stands_alone(main, files[main]):
            return Bundled(code=files[main], language=language)
        if bad := [path for path in files if not _is_inside(path)]:
            return _wrong(Finding(file=bad[0], message="is not a path below the folder"))
        config, findings = settings_of(files)
        if findings:
            return Bundled(findings=findings)
        async with self._room:
            work = _Work(self._folder, files, main, language)
            try:
                work.write(config)
                return await work.bundle()
            finally:
                await asyncio.to_thread(shutil.rmtree, work.folder, ignore_errors=True)


class _Work:
    """The making of one bundle, in a folder of its own."""

    def __init__(
        self, folder: Path, files: Mapping[str, str], main: str, language: Language
    ) -> None:
        # The paths from here to the packages come up in bundles, so they never differ in shape.
        (folder / "work").mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = Path(tempfile.mkdtemp(dir=folder / "work")).resolve()
        self._kept = (folder / "deno").resolve()
        self._sources = self.folder / "src"
        self._files = files
        self._main = main
        self._language = language
        # Deno tells languages by suffixes, people by `--language`.
        self._entry = main if main.endswith(_SUFFIXES[language]) else main + _SUFFIXES[language][0]

    def write(self, config: Mapping[str, object]) -> None:
        """Write the files, and how Deno is to understand them."""
        for path, text in self._files.items():
            if PurePosixPath(path).name in _OURS:
                continue
            target = self._sources / (self._entry if path == self._main else path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", errors="replace")
        (self.folder / "deno.json").write_bytes(msgspec.json.encode(config))

    async def bundle(self) -> Bundled:
        try:
            return await self._made()
        except TimeoutError:
            late = f"it took longer than {TIME:g} s to bundle"
            return _wrong(Finding(file=self._main, message=late))

    async def _made(self) -> Bundled:
        code, output, problem = await self._deno("info", "--json", "--no-remote", "--no-npm")
        try:
            graph = msgspec.json.decode(output, type=_Graph)
        except msgspec.DecodeError:
            return _wrong(Finding(file=self._main, message=_line(problem) or f"deno: {code}"))
        findings = list(self._examine(graph))
        if findings:
            return Bundled(findings=findings)
        if all(target.specifier.startswith("node:") for _, _, target in self._imports(graph)):
            return Bundled(code=self._files[self._main], language=self._language)
        return await self._link(graph)

    async def _link(self, graph: _Graph) -> Bundled:
        out = self.folder / "out.js"
        code, _, problem = await self._deno(
            "bundle",
            "--format=esm",
            "--platform=browser",
            "--sourcemap=external",
            f"--output={out}",
        )
        if code:
            return Bundled(findings=self._read(problem, graph))
        if stranger := self._stranger(out.with_name("out.js.map")):
            return _wrong(Finding(file=self._main, message=f"a package imports {stranger}"))
        size = out.stat().st_size
        if size > MAX_BUNDLE:
            message = f"the bundle has {size} bytes; the limit is {MAX_BUNDLE}"
            return _wrong(Finding(file=self._main, message=message))
        return Bundled(code=out.read_text(encoding="utf-8"))

    def _stranger(self, source_map: Path) -> str:
        """What has come into a bundle that is neither of the function nor of a package."""
        sources = msgspec.json.decode(source_map.read_bytes(), type=_Map).sources
        for source in sources:
            path = (self.folder / source.removeprefix("file://")).resolve()
            if not path.is_relative_to(self._sources) and not path.is_relative_to(self._kept):
                return source
        return ""

    # What imports what.

    def _imports(self, graph: _Graph) -> Iterator[tuple[str, _Import, _Target]]:
        """Every import in the function's own files: the file, the import, what it leads to."""
        for module in graph.modules:
            if (file := self._name(module.specifier)) is not None:
                for dependency in module.dependencies:
                    if dependency.code is not None:
                        yield file, dependency, dependency.code

    def _examine(self, graph: _Graph) -> Iterator[Finding]:
        failed = {module.specifier: module.error for module in graph.modules if module.error}
        for specifier, error in failed.items():
            name = self._name(specifier)
            if name is not None and (place := _PLACE.search(error)):
                yield _found(name, int(place[2]), int(place[3]), _line(error))
        for file, dependency, target in self._imports(graph):
            if message := self._refusal(dependency, target, failed):
                start = target.span.start
                yield _found(file, start.line + 1, start.character + 1, message)
        entry = (self._sources / self._entry).as_uri()
        if entry in failed and not _PLACE.search(failed[entry]):
            yield Finding(file=self._main, message=_line(failed[entry]))

    def _refusal(
        self, dependency: _Import, target: _Target, failed: Mapping[str, str]
    ) -> str | None:
        said, specifier = dependency.specifier, target.specifier
        scheme = specifier.partition(":")[0]
        match scheme:
            case "npm":
                return None if EXACT.fullmatch(specifier) else _unpinned(said, specifier)
            case "node" if specifier in deno.BUILTINS:
                return None
            case "node":
                return f'functions cannot import "{said}"'
            case "file" if self._name(specifier) is None:
                return f'"{said}" leaves the folder of the function'
            case "file" if _is_missing(failed.get(specifier, "")):
                return f'there is no file "{said}"'
            case "file":
                return None
            case "":
                return _unknown(said)
            case _:
                return f'cannot import "{said}": only files of the function and npm packages'

    def _name(self, specifier: str) -> str | None:
        """The function's file that a URL leads to, None if it leads elsewhere."""
        root = self._sources.as_uri() + "/"
        if not specifier.startswith(root):
            return None
        path = unquote(specifier.removeprefix(root))
        return self._main if path == self._entry else path

    # What the linker says.

    def _read(self, problem: str, graph: _Graph) -> list[Finding]:
        if 'for package "@esbuild/' in problem:
            raise errors.Unavailable(
                "functions.bundle",
                "functions of several files are linked by esbuild, which could not be fetched from"
                " the npm registry; set NPM_CONFIG_REGISTRY to one that this machine reaches",
            )
        findings = []
        for found in _ERROR.finditer(problem):
            message = _line(found["message"])
            if message != "bundling failed":
                findings.append(self._placed(message, problem[found.end() :], graph))
        return findings or [Finding(file=self._main, message="it cannot be bundled")]

    def _placed(self, message: str, rest: str, graph: _Graph) -> Finding:
        place = _PLACE.match(rest.lstrip())
        file = self._name(place[1]) if place else None
        message, about = _about(message)
        for name, _, target in self._imports(graph):
            if about and about.fullmatch(target.specifier) and file in (None, name):
                start = target.span.start
                return _found(name, start.line + 1, start.character + 1, message)
        # The linker sees TypeScript without its types, whose lines are others.
        if place and file and file.endswith((".js", ".mjs")):
            return _found(file, int(place[2]), int(place[3]) + 1, message)
        return Finding(file=file or self._main, message=message)

    # Running Deno.

    async def _deno(self, *arguments: str) -> tuple[int, bytes, str]:
        """Its exit code, output and complaints; raises `TimeoutError` after `TIME`."""
        environment = self._environment()
        argv = [
            deno.binary(),
            arguments[0],
            "--no-lock",
            f"--config={self.folder / 'deno.json'}",
            *arguments[1:],
            self._entry,
        ]
        process = await asyncio.create_subprocess_exec(
            *closed_in(argv, environment, self.folder, self._kept),
            cwd=self._sources,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_MAX_OUTPUT,
        )
        _restrain(process.pid)
        try:
            async with asyncio.timeout(TIME):
                output, problem = await process.communicate()
        finally:
            # The linker is a child of its own.
            _kill(process.pid)
            if process.returncode is None:
                await process.wait()
        return process.returncode or 0, output, problem.decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        for name, value in os.environ.items():
            if name.lower().startswith("npm_config_"):
                passed.setdefault(name.upper(), value)
        # What it runs makes temporary files, too.
        own = {"TMPDIR": str(self.folder), walls.VARIABLE: os.environ.get(walls.VARIABLE, "")}
        return {**passed, **deno.quiet(self._kept), **own, "DENO_NO_PACKAGE_JSON": "1"}


def closed_in(argv: list[str], environment: Mapping[str, str], work: Path, kept: Path) -> list[str]:
    """What runs Deno so that it reaches its own folders and npm's registries, and nothing else."""
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    return within(
        argv,
        keep=(work,),
        execute=(kept,),
        read=files_of(environment),
        ports=sorted(ports_of(environment)),
    )


_NODE = re.compile(
    r"(child_process|cluster|dgram|dns|fs|http2?|https|inspector|module|net|os|process|readline|repl"
    r"|sqlite|tls|tty|v8|vm|wasi|worker_threads)(/promises)?"
)
"""Other modules of Node, by their old names."""


class _Map(msgspec.Struct):
    sources: list[str] = []


_OURS = (".npmrc", "deno.json", "deno.jsonc", "deno.lock", "tsconfig.json")
"""Files that would tell Deno what to do; what they may say is read by `packages`."""


def _about(message: str) -> tuple[str, re.Pattern[str] | None]:
    """What the linker means, and the imports that it may mean by it."""
    if found := _PACKAGE.search(message):
        package = found["package"]
        said = f"the npm registry has no {package}, or is not reached"
        return said, re.compile(rf"npm:/?{re.escape(package)}(/.*)?")
    if found := _MISSING_EXPORT.search(message):
        module = found["module"]
        return f'"{module}" exports no {found["name"]}', re.compile(f".*/{re.escape(module)}")
    if found := _UNRESOLVED.search(message):
        specifier = found["specifier"]
        return f'there is no "{specifier}"', re.compile(re.escape(specifier))
    return message, None


def _stands_alone(main: str, code: str) -> bool:
    return not main.endswith((".jsx", ".tsx")) and not _IMPORTS.search(code)


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)


def _unpinned(said: str, specifier: str) -> str:
    package = _package(specifier.removeprefix("npm:").lstrip("/"))
    return f'"{said}" has no exact version; say one, like "npm:{package}@1.2.3"'


def _package(path: str) -> str:
    """The name of the package that a path leads into, without its version."""
    parts = path.split("/")
    scope = f"{parts.pop(0)}/" if path.startswith("@") and len(parts) > 1 else ""
    return scope + parts[0].partition("@")[0]


def _unknown(said: str) -> str:
    if said.startswith((".", "/")):
        return f'there is no file "{said}"'
    if f"node:{said}" in deno.BUILTINS:
        return f'functions cannot import "{said}"; say "node:{said}"'
    if _NODE.fullmatch(said):
        return f'functions cannot import "{said}"'
    package = _package(said)
    wanted = f"npm:{package}@VERSION{said.removeprefix(package)}"
    return (
        f'"{said}" is none of the function\'s files; say "{wanted}",'
        " or its exact version under dependencies in package.json"
    )


def _is_missing(error: str) -> bool:
    return bool(error) and not _PLACE.search(error)


def _found(file: str, line: int, column: int, message: str) -> Finding:
    return Finding(file=file, line=line, column=column, message=message)


def _wrong(finding: Finding) -> Bundled:
    return Bundled(findings=[finding])


def _line(text: str) -> str:
    """The first line of what Deno says, without its own words for it."""
    first = text.strip().partition("\n")[0]
    return first.removeprefix("error: ").removeprefix("SyntaxError: ").strip()


def _restrain(pid: int) -> None:
    """Let it, and its children, have only so much memory: imports may lead to endless files."""
    if sys.platform == "linux":
        import resource

        try:
            resource.prlimit(pid, resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        except ProcessLookupError:
            return


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
