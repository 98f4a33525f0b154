"""A browser without a window: opens a page, says what its console said, takes a picture, or is steered as by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_CONSOLE = re.compile(r':CONSOLE[:(]\d+\)?\] "(.*)", source: (.*) \(\d+\)$')


@dataclass(frozen=True)
class Visit:
    """What came of opening a page.

    Args:
        html: the document after its scripts have run.
        console: every line that was written to the console; errors of scripts begin with `Uncaught`.
    """

    html: str
    console: tuple[str, ...]

    @property
    def errors(self) -> tuple[str, ...]:
        """Errors that no script caught."""
        return tuple(line for line in self.console if line.startswith("Uncaught"))


@dataclass
class Tab:
    """A page that is open in real time, over Chromium's own pipes."""

    told: BinaryIO
    answers: BinaryIO
    session: str = ""
    errors: list[str] = field(default_factory=list)
    _last: int = 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its answer."""
        self._last += 1
        session = {"sessionId": self.session} if self.session else {}
        self.told.write(
            json.dumps({"id": self._last, "method": method, "params": parameters, **session}).encode() + b"\0"
        )
        self.told.flush()
        while (answer := self._message()).get("id") != self._last:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path | str) -> None:
        """Open a page, a file or the URL of a server, and wait until it is loaded."""
        for part in ("Runtime", "Page"):
            self.ask(f"{part}.enable")
        self.ask("Page.navigate", url=page.resolve().as_uri() if isinstance(page, Path) else page)
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Run statements in the page, which may await, and take what they return."""
        asked = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        done = self.ask("Runtime.evaluate", expression=f"(async () => {{ {script} }})()", **asked)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press a key, as by hand."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, text=text if kind == "keyDown" else "")

    def _message(self) -> dict[str, Any]:
        read = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            read += byte
        message: dict[str, Any] = json.loads(read)
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        return message


@dataclass(frozen=True)
class Browser:
    """Headless Chromium.

    Args:
        binary: its program.
        profile: folder for its settings.
    """

    binary: str
    profile: Path

    def visit(self, page: Path | str, *, seconds: float = 5.0, dark: bool = False, offline: bool = False) -> Visit:
        """Open a page and let its scripts run.

        Args:
            page: a file, or the URL of a server.
            seconds: how long scripts may wait for timers, in the page's own time; that is skipped where nothing happens.
            dark: whether the reader prefers dark pages.
            offline: whether no host can be found.
        """
        done = self._run("--dump-dom", page, seconds, dark=dark, offline=offline)
        found = [match[1] for line in done.stderr.splitlines() if (match := _CONSOLE.search(line))]
        return Visit(done.stdout, tuple(found))

    def picture(
        self, page: Path | str, path: Path, *, size: tuple[int, int] = (1280, 2000), dark: bool = False
    ) -> Path:
        """Take a picture of a page.

        Args:
            page: a file, or the URL of a server.
            path: of the PNG file.
            size: of the window (pixels).
            dark: whether the reader prefers dark pages.
        """
        self._run(f"--screenshot={path}", page, 5.0, f"--window-size={size[0]},{size[1]}", dark=dark)
        return path

    @contextmanager
    def tab(self, page: Path | str) -> Iterator[Tab]:
        """Open a page, a file or the URL of a server, in real time, to be steered."""
        read_told, write_told = os.pipe()
        read_answers, write_answers = os.pipe()
        redirected = 'told=$1 answers=$2; shift 2; exec "$@" 3<&"$told" 4>&"$answers"'
        command = ["bash", "-c", redirected, "bash", str(read_told), str(write_answers), self.binary]
        with subprocess.Popen(
            [*command, *self._options(), "--remote-debugging-pipe", "--window-size=1280,1000", "about:blank"],
            pass_fds=(read_told, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            os.close(read_told)
            os.close(write_answers)
            with os.fdopen(write_told, "wb") as told, os.fdopen(read_answers, "rb") as answers:
                tab = Tab(told, answers)
                try:
                    target = tab.ask("Target.createTarget", url="about:blank")["targetId"]
                    tab.session = tab.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                    tab.open(page)
                    yield tab
                finally:
                    process.terminate()

    def _run(
        self, what: str, page: Path | str, seconds: float, *more: str, dark: bool = False, offline: bool = False
    ) -> subprocess.CompletedProcess[str]:
        url = page.resolve().as_uri() if isinstance(page, Path) else page
        options = [
            *self._options(),
            f"--virtual-time-budget={round(1000 * seconds)}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            *(["--host-resolver-rules=MAP * ~NOTFOUND"] if offline else []),
            *more,
        ]
        return subprocess.run(
            [self.binary, *options, what, url], capture_output=True, text=True, timeout=120, check=True
        )

    def _options(self) -> list[str]:
        return [
            "--headless=new",
            "--no-sandbox",  # tests run as root in containers
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            "--mute-audio",
            f"--user-data-dir={self.profile}",
            "--enable-logging=stderr",
        ]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Chromium; a test that needs it skips where none is installed."""
    binary = next((found for name in BINARIES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(BINARIES)} is installed")
    return Browser(binary, tmp_path_factory.mktemp("browser"))
