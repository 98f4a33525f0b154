"""A browser without a window: opens a page, says what its console said, and takes a picture."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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

    def _run(
        self, what: str, page: Path | str, seconds: float, *more: str, dark: bool = False, offline: bool = False
    ) -> subprocess.CompletedProcess[str]:
        url = page.resolve().as_uri() if isinstance(page, Path) else page
        options = [
            "--headless=new",
            "--no-sandbox",  # tests run as root in containers
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={self.profile}",
            "--enable-logging=stderr",
            f"--virtual-time-budget={round(1000 * seconds)}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            *(["--host-resolver-rules=MAP * ~NOTFOUND"] if offline else []),
            *more,
        ]
        return subprocess.run(
            [self.binary, *options, what, url], capture_output=True, text=True, timeout=120, check=True
        )


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Chromium; a test that needs it skips where none is installed."""
    binary = next((found for name in BINARIES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(BINARIES)} is installed")
    return Browser(binary, tmp_path_factory.mktemp("browser"))
