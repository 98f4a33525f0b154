"""The server's page: what it weighs, and how soon it can be used, in Chromium; rows of `benchmarks.serve`."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VISITS = 7  # the median of which counts; each in a profile of its own, with nothing kept
# Bytes of what npm delivers, after gzip -9: wavesurfer.min.js with the plugins regions and timeline, uPlot with styles.
LIBRARIES = {"wavesurfer.js 8.0.1": 14_578 + 6_789 + 3_037, "uPlot 1.6.32": 21_991 + 758}
USABLE = "performance.getEntriesByName('usable')[0]?.startTime"


def page_rows(address: str, recording: Path) -> list[Row]:
    """Weight, time until the page can be used, and time until a recording is shown.

    Args:
        address: of the server.
        recording: that is analysed.
    """
    with _browser() as browser:
        visits = [_visit(browser, address) for _ in range(VISITS + 1)][1:]  # the first one starts the browser
        shown = [_analysed(browser, address, recording) for _ in range(3)]
    weight, requests, usable = (statistics.median(found) for found in zip(*visits, strict=True))
    whole, server = (statistics.median(found) for found in zip(*shown, strict=True))
    peer = sum(LIBRARIES.values())
    named = f"{' and '.join(LIBRARIES)} alone, {peer / 1000:.1f} kB"
    return [
        Row("page: weight on the network", weight / 1000, "kB", named, peer / weight, 1.0),
        Row("page: requests until it can be used", requests, "requests"),
        Row("page: time until it can be used", usable, "ms"),
        Row(
            "page: from the choice of a recording to its picture",
            whole,
            "s",
            f"until the server's answer, {server:.2f} s",
        ),
    ]


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def _visit(browser: Any, address: str) -> tuple[float, float, float]:
    """Bytes and requests until the page can be used, and milliseconds."""
    context = browser.new_context()
    page = context.new_page()
    requests: list[Any] = []
    page.on("requestfinished", lambda request: requests.append(request))  # noqa: PLW0108  # Playwright marks what it is given
    page.goto(f"{address}/")
    while (usable := page.evaluate(USABLE)) is None:
        time.sleep(0.01)
    page.wait_for_load_state("networkidle")
    sizes = [request.sizes() for request in requests]
    sent = sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)
    found = float(sent), float(len(sizes)), float(usable)
    context.close()
    return found


def _analysed(browser: Any, address: str, recording: Path) -> tuple[float, float]:
    """Seconds until a recording is shown, and of those until the server's answer was there."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/")
    page.wait_for_selector("#choose")
    page.locator("#options").evaluate("options => { options.open = true; }")
    page.select_option("#mode", "sliding")
    began = time.perf_counter()
    with page.expect_response("**/v1/timeline*") as answer:
        page.set_input_files("#picked", recording)
    answer.value.finished()
    server = time.perf_counter() - began
    page.wait_for_selector("#result:not([hidden]) #stage")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    whole = time.perf_counter() - began
    context.close()
    return whole, server
