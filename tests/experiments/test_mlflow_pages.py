"""MLflow's own page compares two versions by the figures that a comparison has written to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from emonet.registry import VOICE, tell_metrics, versions_of
from emonet.tracking import default_uri, start_run
from tests.browsers import Browser
from tests.experiments.model_registry import register
from tests.experiments.test_ui_verb import answer
from tests.ports import free_port

KEY = "compare/toy test/mae/mean"


@pytest.mark.slow
def test_mlflow_compares_versions_without_a_script_error(browser: Browser, runs: Path, voice: Path) -> None:
    uri = default_uri(runs)
    for value in (0.5125, 0.4375):
        register(voice, runs)
        with start_run(
            uri, experiment="compare", name="x", artifacts=runs / "mlartifacts", config={}, tags={}
        ) as comparing:
            tell_metrics(versions_of(VOICE, uri)[0], comparing, {KEY: value}, ("toy test", "abcd"))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", uri]
    command += ["--workers", "1"]  # as `emonet ui` starts it, but sooner there
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=runs, env=os.environ | quiet
    ) as server:
        try:
            assert answer(port, server, seconds=120) == 200
            shown = {str(one.version): one.run_id for one in versions_of(VOICE, uri)}
            query = f"name={quote(json.dumps(VOICE))}&runs={quote(json.dumps(shown))}"
            visit = browser.visit(f"http://127.0.0.1:{port}/#/compare-model-versions?{query}", seconds=10)
        finally:
            server.terminate()
            server.wait(60)
    assert visit.errors == ()
    for words in ("Comparing 2 Versions", KEY, "0.5125", "0.4375"):
        assert words in visit.html
