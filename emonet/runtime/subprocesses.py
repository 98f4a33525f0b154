"""Subprocesses of ours: started fresh, spoken to over two pipes each, gone when their parent is gone.

Not multiprocessing: its `spawn` and `forkserver` import the caller's main script again in every child, so that a script
without the guard starts itself over and over and a decoder carries torch, and `fork` copies locks that threads hold.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, final

import numpy as np
from jaxtyping import UInt8

from emonet.errors import AudioError, EmonetError, RequestError

PIPE_BYTES = 1 << 20  # what Linux lets anyone have: 2.5 GB/s measured, against 0.6 with its default of 64 KiB
SLICE = 1.0  # seconds; a wait counts at most this much at a time, so that a process that was stopped (Ctrl-Z) or a
# machine that slept does not find every deadline passed
READY = 0  # kind of the message that a child sends once it has imported everything
_HEADER = struct.Struct("<QQ")  # kind and size of a message
# Ends without the interpreter's clean-up: a signal that comes in the midst of it was seen to make it spin for ever.
_CODE = """\
import sys
sys.path[:] = {path!r}
import os, signal, traceback
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
status = 1
try:
    from {module} import {function}
    {function}(*sys.argv[1:])
    status = 0
except BaseException:
    traceback.print_exc()
sys.stderr.flush()
os._exit(status)
"""


_KINDS: dict[str, type[EmonetError]] = {"AudioError": AudioError, "RequestError": RequestError}


def packed(error: EmonetError) -> bytes:
    """An error as the content of a message; a subclass is told as the kind that `unpacked` knows, of its exit code."""
    kind = next((name for name, one in _KINDS.items() if isinstance(error, one)), EmonetError.__name__)
    return json.dumps([kind, error.what, error.hint, str(error)]).encode()


def unpacked(content: UInt8[np.ndarray, " bytes"] | bytes) -> EmonetError:
    """The error in a message."""
    name, what, hint, message = json.loads(bytes(content))
    error = _KINDS.get(name, EmonetError)(what, hint=hint)
    error.args = (message,)
    return error


class ChildDiedError(Exception):
    """A child ended before it answered; the message is short, e.g. `signal 11, SIGSEGV`."""


@final
class Child:
    """A process that runs one function of ours; a context manager that kills it at the end.

    Its standard error is kept in a file until it ends, and nothing that it prints reaches this process' own output.
    Signals that reach all processes of a terminal or a job do not end it: this process decides.

    Args:
        entry: a function to import, as `module:function`; it is called with `arguments` and makes a `Parent`.
        arguments: strings.
        environment: variables that differ from this process' own.
    """

    def __init__(self, entry: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        module, function = entry.split(":")
        try:
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        except OSError as error:  # the folder for temporary files is full, or gone
            raise _not_started(error.strerror or error) from error
        path = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100 an empty entry is the current folder
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(path=path, module=module, function=function), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            self._said.close()
            raise _not_started(error.strerror) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: Any = self._process.stdin
        self._out: Any = self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        _widen(self._out.fileno())

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def id(self) -> int:
        """The process' id."""
        return self._process.pid

    def started(self, patience: float) -> None:
        """Wait until the child has imported what it needs.

        Args:
            patience: how long to wait, in seconds.

        Raises:
            EmonetError: if it ends or does not answer; with the last line that it printed.
        """
        try:
            self.receive(patience)
        except ChildDiedError as error:
            raise _not_started(self.last_words() or error) from error
        except TimeoutError as error:
            raise _not_started(f"no answer within {patience:g} s") from error

    def send(self, content: bytes, patience: float) -> None:
        """Send a message.

        Raises:
            BrokenPipeError: if the child has ended.
            TimeoutError: if it takes nothing for `patience` seconds.
        """
        view = memoryview(_HEADER.pack(0, len(content)) + content)
        while view:
            _await(self._in.fileno(), select.POLLOUT, patience)
            view = view[self._in.write(view) or 0 :]

    def receive(self, patience: float) -> tuple[int, UInt8[np.ndarray, " bytes"]]:
        """The next message: its kind and content.

        Raises:
            ChildDiedError: if the child ended before it was whole.
            TimeoutError: if nothing comes for `patience` seconds.
        """
        kind, size = _HEADER.unpack(self._read(_HEADER.size, patience).data)
        return kind, self._read(size, patience)

    def fileno(self) -> int:
        """The pipe that can be read when there is a message, for `select`."""
        return int(self._out.fileno())

    def wait(self, patience: float) -> None:
        """Wait until the child has ended by itself, at most `patience` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)

    def kill(self) -> None:
        """End the child at once; `close` is still to be called."""
        self._process.kill()

    def last_words(self) -> str:
        """The last line that the child printed; empty if it printed nothing."""
        self._said.seek(0)
        lines = self._said.read()[-4096:].decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Kill the child if it still runs, and let go of everything."""
        self._process.kill()
        self._process.wait()
        for file in (self._in, self._out, self._said):
            file.close()

    def _read(self, size: int, patience: float) -> UInt8[np.ndarray, " bytes"]:
        content = np.empty(size, np.uint8)
        view = content.data
        while view:
            _await(self._out.fileno(), select.POLLIN, patience)
            read = self._out.readinto(view)
            if not read:
                self.wait(patience)
                self._process.kill()  # if it goes on without its end of the pipe
                raise ChildDiedError(_cause(self._process.wait()))
            view = view[read:]
        return content


@final
class Parent:
    """The process that started this one, as seen by a child.

    Args:
        gone: called, in another thread, when the other process is gone or has nothing more to say; also while this one
            computes or hangs.
    """

    def __init__(self, gone: Callable[[], None]) -> None:
        self._in = os.dup(0)
        self._out = os.dup(1)
        os.dup2(2, 1)  # what libraries print must not get between the messages
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._gone = gone
        threading.Thread(target=self._listen, name="parent", daemon=True).start()
        self.send(READY)

    def requests(self) -> Iterator[bytes]:
        """Messages as they come, until the other process is gone."""
        while (request := self._requests.get()) is not None:
            yield request

    def send(self, kind: int, content: bytes | memoryview = b"") -> None:
        """Send a message; `kind` is a number of the caller's choice above 0."""
        for part in (_HEADER.pack(kind, len(content)), content):
            view = memoryview(part)
            while view:
                view = view[os.write(self._out, view) :]

    def _listen(self) -> None:
        with os.fdopen(self._in, "rb") as pipe:
            while len(header := pipe.read(_HEADER.size)) == _HEADER.size:
                size = _HEADER.unpack(header)[1]
                self._requests.put(pipe.read(size))
        self._gone()
        self._requests.put(None)


def _await(handle: int, event: int, patience: float) -> None:
    """Wait until a pipe can be read or written; also returns when its other end is closed."""
    poll = select.poll()
    poll.register(handle, event)
    left = patience
    while not poll.poll(1000 * min(left, SLICE)):
        left -= SLICE
        if left <= 0:
            raise TimeoutError


def _widen(handle: int) -> None:
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # the user has too many wide pipes already; a narrow one is slower, no more
            fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    return f"signal {-status}, {signal.Signals(-status).name}"


def _not_started(found: object) -> EmonetError:
    return EmonetError("a process of our own cannot start", where=sys.executable, found=found)
