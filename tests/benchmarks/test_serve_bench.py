from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks import onnx, serve_page
from benchmarks.extract import save_captioner
from benchmarks.onnx import Measured, onnx_rows
from benchmarks.serve import command_line, memory_rows, speed_rows
from benchmarks.serve_load import Load, Serving, ask_for
from emonet.errors import EmonetError
from emonet.serving import EmotionServer, ServerSettings


def test_clients_load_a_server(voice: Path, make_wav: object) -> None:
    with EmotionServer(ServerSettings(model=str(voice), port=0, device="cpu")) as server:
        serving = Serving("emonet", urlsplit(server.address).port or 0, "/v1/score", os.getpid())
        body = make_wav().read_bytes()  # type: ignore[operator]
        load = ask_for(serving, body, clients=3, requests=20, kind="audio/wav")
        assert (load.requests, load.clients) == (20, 3)
        assert 0 < load.p50 <= load.p95 <= load.seconds
        assert load.rate == 20 / load.seconds
        assert ask_for(serving, body, clients=1, seconds=0.2, kind="audio/wav").requests >= 1
        with pytest.raises(EmonetError, match=r"(?s)a request was not answered.*422"):
            ask_for(serving, b"no audio", clients=2, requests=4, kind="audio/wav")
    assert serving.resident > 1e7


def test_rows_compare_the_servers() -> None:
    loads = [Load("emonet", 32, 300, 10.0, 0.5, 1.0, 6.0), Load("mlflow", 32, 100, 10.0, 2.0, 4.0, 8.0)]
    rate, late, cost = speed_rows("a model", loads)
    assert (rate.figure, rate.ratio, rate.reach, rate.verdict) == (30, pytest.approx(3), 3.0, "met")
    assert (late.figure, late.ratio) == (1000, 4)
    assert (cost.figure, cost.ratio) == (20, pytest.approx(4))
    (memory,) = memory_rows((100 << 20, 110 << 20), 20_000)
    assert (memory.figure, memory.verdict) == (110, "short")
    assert command_line().parse_args([]).requests == 20_000


def test_rows_compare_exported_models() -> None:
    rates = {"torch float32": 2.0, "ONNX float32": 3.0, "ONNX int8": 4.0}
    rates |= {"ONNX float32 encoder": 3.5, "ONNX int8 encoder": 5.0, "faster-whisper int8 encoder": 10.0}
    sizes = {"torch float32": 100_000_000, "ONNX float32": 100_000_000, "ONNX int8": 25_000_000}
    states = {"ONNX float32": 1e-4, "ONNX int8": 0.02, "faster-whisper int8": 0.04}
    found = Measured("tiny", rates, sizes, {"float32": 1e-5, "int8": 0.01}, states)
    rows = {row.name: row for row in onnx_rows(found)}
    assert rows["ONNX int8: clips a second, whole model"].ratio == 2
    assert rows["ONNX int8: clips a second, encoder alone"].ratio == 0.5
    assert "ONNX float32: clips a second, encoder alone" not in rows, "who does not take part has no row"
    assert rows["ONNX int8: size"].ratio == 4
    exact, rounded = (
        rows[f"ONNX {name}: largest difference of a score to torch float32"] for name in ("float32", "int8")
    )
    assert (exact.ratio, exact.verdict, rounded.verdict) == (pytest.approx(100), "met", "")
    assert rows["ONNX int8: difference of states"].ratio == 2


@pytest.mark.slow
def test_exported_models_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("ctranslate2", reason="the extra bench is not installed")
    tiny = save_captioner(tmp_path / "tiny", width=64, layers=2)
    monkeypatch.setattr(onnx, "find_whisper", lambda folder: (tiny, "tiny"))
    (tmp_path / "work").mkdir()
    found = onnx.measure(tmp_path / "work", rounds=1)
    assert found.scores["float32"] < 1e-3
    assert found.states["ONNX float32"] < found.states["ONNX int8"] < 0.1
    assert found.states["faster-whisper float32"] < 1e-2, "the same encoder"
    assert len(onnx_rows(found)) >= 10


@pytest.mark.slow
def test_the_page_is_weighed(voice: Path, make_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright", reason="playwright is not installed")
    if not any(map(shutil.which, serve_page.BROWSERS)):
        pytest.skip("no browser is installed")
    monkeypatch.setattr(serve_page, "VISITS", 1)
    with EmotionServer(ServerSettings(model=str(voice), port=0, device="cpu")) as server:
        weight, requests, usable, shown = serve_page.page_rows(server.address, make_wav(seconds=2.0))
    assert 10 < weight.figure < 30
    assert weight.verdict == "met"
    assert requests.figure == 2
    assert 0 < usable.figure < 10_000
    assert shown.figure > 0
