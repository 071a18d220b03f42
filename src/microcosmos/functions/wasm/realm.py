"""A realm: an instance of its own, which begins where the loading of its function ended."""

from __future__ import annotations

import base64
import os

from microcosmos.functions.interface import Limits
from microcosmos.functions.quickjs.failures import Ended
from microcosmos.functions.quickjs.limits import LOAD_CPU

from .image import Image
from .instance import Instance
from .origin import BUFFER, Origin, handles, stack

_NO_MEMORY = "InternalError: out of memory"


class Realm:
    """One heap of JavaScript, for one run.

    Every entry raises `Ended` when it is ended by a limit, and nothing can be entered then.

    Args:
        origin: of all realms.
        limits: of its function.
        image: of that function, loaded; none has been loaded unless said.
        anew: whether it has randomness of its own, not that of the image.
    """

    __slots__ = ("_doors", "_instance", "_origin", "_seconds", "_seed")

    def __init__(
        self,
        origin: Origin,
        limits: Limits,
        image: Image | None = None,
        *,
        anew: bool = True,
    ) -> None:
        self._origin = origin
        self._doors = origin.doors
        self._seconds = limits.cpu if image else LOAD_CPU
        self._seed = ""
        # What the engine itself takes is not the function's.
        self._instance = Instance(origin.machine, origin.image.size + limits.heap)
        try:
            (image or origin.image).into(self._instance)
            self._instance.stack(stack(limits.stack))
            if anew:
                random = os.urandom(40)
                origin.renew(self._instance, random[:8])
                if image:
                    self._seed = base64.b64encode(random[8:]).decode()
        except BaseException:
            self._instance.close()
            raise

    @property
    def heap(self) -> int:
        """Bytes that it takes."""
        return self._instance.size

    def close(self) -> None:
        """Let go of it; it is not entered any more."""
        self._instance.close()

    def image(self) -> Image:
        """What it is now, for others to begin with."""
        self._instance.begin(LOAD_CPU)
        try:
            self._instance.call(b"run_gc")
        finally:
            self._instance.over()
        return Image(self._instance)

    # Entries, as those of the other engine.

    def limit(self, seconds: float) -> None:
        """Let each entry take so much of the processor."""
        self._seconds = seconds

    def setup(self, variables: str, grants: str, seed: str, *world: float) -> None:
        """Give the function its variables, bindings and randomness."""
        self._enter("setup", variables, grants, seed, *world)

    def source(self, code: str) -> str:
        """Run a whole source; the names of its handlers."""
        return self._enter("source", code) or ""

    def script(self, code: str) -> None:
        """Prepare a script."""
        self._enter("script", code)

    def run(
        self,
        number: int,
        head: str,
        body: str | None = None,
        form: int | None = None,
        source: int | None = None,
    ) -> str | None:
        """Answer a request of a handler; gives a text, or None if it comes later."""
        if form is None:
            return self._enter("run", number, head)
        if source is None:
            return self._enter("run", number, head, body, form)
        return self._enter("run", number, head, body, form, source)

    def execute(self, number: int, path: str) -> str | None:
        """The same for a script."""
        return self._enter("execute", number, path)

    def event(self, number: int, name: str, event: str) -> str | None:
        """The same for an event."""
        return self._enter("event", number, name, event)

    def again(self) -> str:
        """The last answer as JSON."""
        return self._enter("again") or '""'

    def settle(self, number: int, *said: object) -> None:
        """Tell that something asked for has come."""
        self._enter("settle", number, *said)

    def grant(self, number: int, size: int) -> None:
        """Let a streamed answer go on."""
        self._enter("grant", number, size)

    def take(self) -> str:
        """What has been asked for since, as JSON."""
        return self._enter("take") or ""

    def clear(self) -> None:
        """Forget what is under way."""
        self._enter("clear")

    def step(self) -> bool:
        """Run jobs that wait, up to many; False if there was none."""
        instance = self._instance
        instance.begin(self._seconds)
        try:
            return instance.call(b"execute_pending_jobs") > 0
        finally:
            instance.over()

    def _enter(self, name: str, *given: object) -> str | None:
        instance, origin = self._instance, self._origin
        instance.begin(self._seconds)
        try:
            door = self._doors[name]
            fresh = self._seed
            if fresh:
                made = [origin.one if value == 1 else self._handle(value) for value in given]
                arguments = [self._handle(fresh), door, *made]
                door, self._seed = self._doors["anew"], ""
            else:
                arguments = made = [self._handle(value) for value in given]
            instance.write(origin.given, handles[len(arguments)].pack(*arguments))
            call = (door, origin.undefined, origin.given, len(arguments), origin.out)
            if instance.call(b"call_function", *call):
                raise Ended(self._thrown())
            result = instance.word(origin.out)
            said = self._text(result)
            if not fresh:
                # Most realms are entered once, and then given back as a whole.
                for handle in (*made, result):
                    instance.call(b"free_value", handle)
            return said
        finally:
            instance.over()

    def _handle(self, value: object) -> int:
        instance = self._instance
        match value:
            case str():
                return self._string(value.encode("utf-8", "replace"))
            case None:
                return instance.call(b"new_null")
            case bool():
                return instance.call(b"new_bool", value)
            case int() | float():
                return instance.number(value)
        raise TypeError(f"{type(value).__name__} does not cross")

    def _string(self, data: bytes) -> int:
        instance = self._instance
        if len(data) <= BUFFER:
            instance.write(self._origin.buffer, data)
            return instance.call(b"new_string", self._origin.buffer, len(data))
        at = instance.call(b"qjs_alloc", len(data))
        if not at:
            raise Ended(_NO_MEMORY)
        instance.write(at, data)
        made = instance.call(b"new_string", at, len(data))
        instance.call(b"qjs_free", at, len(data))
        if not made:
            raise Ended(_NO_MEMORY)
        return made

    def _text(self, handle: int) -> str | None:
        """The text that a handle is of; None if it is of something else."""
        instance = self._instance
        if instance.call(b"get_string", handle):
            return None
        size = instance.call(b"qjs_last_len")
        data = instance.read(instance.call(b"qjs_last_ptr"), size)
        if size > BUFFER:
            instance.call(b"qjs_result_free")
        return data.decode("utf-8", "replace")

    def _thrown(self) -> str:
        """What the last entry has thrown."""
        instance, origin = self._instance, self._origin
        if instance.call(b"last_exception", origin.out):
            return _NO_MEMORY
        error = instance.word(origin.out)
        instance.write(origin.given, handles[1].pack(error))
        call = (origin.doors["told"], origin.undefined, origin.given, 1, origin.out)
        if instance.call(b"call_function", *call):
            return _NO_MEMORY
        return self._text(instance.word(origin.out)) or _NO_MEMORY
