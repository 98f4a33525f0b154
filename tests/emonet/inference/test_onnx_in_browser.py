"""An exported model in a browser: onnxruntime-web of npm computes what ONNX Runtime does here."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emonet import EmotionPipeline
from tests.browsers import Browser

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.numeric]
WEB = "onnxruntime-web@1.30.0"
# What docs/onnx.md shows, but for where the files lie.
SCRIPT = """
ort.env.wasm.wasmPaths = '/package/dist/';
const bytes = async path => new Uint8Array(await (await fetch(path)).arrayBuffer());
const load = async name => ort.InferenceSession.create(await bytes(`/%s/${name}.onnx`), {executionProviders: ['wasm']});
const [encoder, experts] = [await load('encoder'), await load('experts')];
const waveforms = new Float32Array((await bytes('/sound.f32')).buffer);
const {states} = await encoder.run({waveforms: new ort.Tensor('float32', waveforms, [1, waveforms.length])});
const frames = new ort.Tensor('int64', BigInt64Array.of(BigInt(states.dims[1])), [1]);
const {scores} = await experts.run({states, speech_frames: frames});
return Array.from(scores.data);
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library and a page that loads it."""
    folder = tmp_path_factory.mktemp("site")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm, which has onnxruntime-web")
    command = [npm, "pack", WEB, "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.SubprocessError:
        pytest.skip(f"npm does not reach {WEB}")
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as content:
        content.extractall(folder, filter="data")
    page = "<!doctype html><title>emonet</title><script src='/package/dist/ort.wasm.min.js'></script>"
    (folder / "index.html").write_text(page)
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler: Any = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_browser_scores_as_onnx_runtime_does(
    precision: Any, knowing_voice: Path, site: Path, address: str, browser: Browser
) -> None:
    from emonet.exporting import export_onnx

    pipeline = EmotionPipeline.from_folder(knowing_voice, precision="float32", device="cpu")
    export_onnx(pipeline, site / precision, name="tiny", precision=precision)
    exported = EmotionPipeline.from_onnx(site / precision)
    sound = np.random.default_rng(0).normal(0, 0.1, exported.encoder.window.samples).astype(np.float32)
    (site / "sound.f32").write_bytes(sound.tobytes())
    with browser.tab(f"{address}/index.html") as tab:
        scores = tab.run(SCRIPT % precision)
        assert tab.errors == []
    (wanted,) = exported.score_samples([sound])
    assert exported.calibration is None
    assert dict(zip(exported.targets, scores, strict=True)) == pytest.approx(wanted.scores, abs=1e-4)
