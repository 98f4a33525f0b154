"""Chromium driven by Playwright, with a microphone that plays a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from tests.browsers import BINARIES


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a tone that comes and goes."""
    path = tmp_path_factory.mktemp("spoken") / "interview.wav"
    moments = np.arange(4 * 16_000) / 16_000
    sf.write(path, 0.4 * np.sin(2 * np.pi * 220 * moments) * np.sin(3 * moments), 16_000)
    return path


@pytest.fixture(scope="module")  # as long as it is open, asyncio.run() of other tests in this process would be refused
def chromium(spoken: Path) -> Iterator[Any]:
    """A browser; a test that needs it skips where it, or Playwright, is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = next((found for name in BINARIES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(BINARIES)} is installed")
    arguments = [
        "--no-sandbox",  # tests run as root in containers
        "--mute-audio",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}",
    ]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=binary, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page in a profile of its own; whatever it says that went wrong is in `page.wrong`."""
    opened = []

    def visit(
        address: str, *, ready: str = "#choose", permissions: tuple[str, ...] = (), script: str = "", **profile: Any
    ) -> Any:
        context = chromium.new_context(**{"locale": "en-GB", "accept_downloads": True, **profile})
        context.set_default_timeout(30_000)
        opened.append(context)
        context.grant_permissions(list(permissions))
        page = context.new_page()
        page.wrong, page.asked = [], []
        page.on(
            "console", lambda message: page.wrong.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(f"{address}/")
        page.wait_for_selector(ready)
        return page

    yield visit
    for context in opened:
        context.close()
