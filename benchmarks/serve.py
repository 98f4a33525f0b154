"""The HTTP server against `mlflow models serve` with the same model, its memory, and models that were exported to ONNX.

`python -m benchmarks.serve`
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import soundfile as sf

from benchmarks.extract import save_captioner, versions
from benchmarks.onnx import NOTES as ONNX_NOTES
from benchmarks.onnx import measure, onnx_rows
from benchmarks.rows import Row, publish
from benchmarks.serve_load import Load, Serving, ask_for, mlflow_server, our_server, registered
from benchmarks.serve_page import page_rows
from benchmarks.use_model import find_speech, find_whisper, make_voice, threads
from emonet.runtime import cpu_abilities
from emonet.windows import SAMPLE_RATE
from experiments.core import say

CLIENTS = (1, 8, 32, 64)
AT, AIM = 32, 3.0  # clients, and times the clips/s of MLflow's server
FLAT = 0.95  # memory after a tenth of the requests, of that after all
SECONDS = 4.0  # of a clip
PAGE_SECONDS = 10.0  # of the recording that the page shows
NOTES = (
    "clients: threads of one process beside the server, each with a connection that is kept, the next request when "
    "the answer is there; both servers get the same JSON with the clip in base64, in turns, on the same cores.",
    "MLflow: `mlflow models serve --env-manager local`, one process, as `emonet serve` was before; it answers each "
    "request in a thread.",
    "memory: resident memory of the server's process after a tenth of the requests, and after all, with a model of a "
    "few hundred kilobytes: what grows then grows with requests.",
    "page: Chromium by Playwright, each visit in a profile of its own; weight with headers, as it is sent; "
    "It can be used once the models are listed and a file can be chosen. The recording is heard by that small model.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/serve.json."""
    options = command_line().parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = {options.model.name: options.model} if options.model else some_models(folder)
        loads = {name: speeds(voice, _made(folder / f"of {name}"), options) for name, voice in models.items()}
        small = make_voice(
            save_captioner(folder / "tiny whisper", width=64, layers=2), _made(folder / "tiny"), window=2.0
        )
        memory = resident(small, folder, options)
        exported = measure(_made(folder / "onnx"), rounds=options.rounds)
        seen = page(small, folder)
    about = {
        "notes": (*NOTES, *ONNX_NOTES),
        "models": {name: str(options.model or "random experts") for name in models},
        "clip": f"{SECONDS:g} s of {find_speech().name}",
        "seconds of each measurement": options.seconds,
        "rounds": options.rounds,
        "requests of the memory": options.requests,
        "processor": sorted(cpu_abilities()),
        "threads": threads(),
        "measurements": {name: [vars(load) for load in some] for name, some in loads.items()},
        "exported": vars(exported),
        "versions": versions(),
        "load average at the end": os.getloadavg(),
    }
    rows = [
        *(row for name, some in loads.items() for row in speed_rows(name, some)),
        *memory_rows(memory, options.requests),
        *onnx_rows(exported),
        *seen,
    ]
    publish(rows, options.out, title="serving a model", about=about)


def some_models(folder: Path) -> dict[str, Path]:
    """A model as small as the sandbox's, where requests cost as much as scores, and one on Whisper base."""
    small = save_captioner(folder / "small whisper", width=128, layers=4)
    whisper, weights = find_whisper(folder)
    return {
        "the sandbox's size": make_voice(small, _made(folder / "small")),
        weights: make_voice(whisper, _made(folder / "base")),
    }


def speeds(voice: Path, folder: Path, options: argparse.Namespace) -> list[Load]:
    """Clips per second of both servers, in turns."""
    loads, model = [], registered(voice, folder / "runs")
    with ExitStack() as stack:
        ours = stack.enter_context(our_server(model, folder / "ours.log"))
        peer = stack.enter_context(mlflow_server(model, folder / "mlflow.log"))
        clip = base64.b64encode(_clip(SECONDS)).decode()
        bodies = {
            ours: json.dumps({"audio": clip}).encode(),
            peer: json.dumps({"dataframe_records": [{"audio": clip}]}).encode(),
        }
        for server, body in bodies.items():
            ask_for(server, body, clients=4, seconds=2)  # warm
        for clients in options.clients:
            for _ in range(options.rounds):
                for server, body in bodies.items():
                    loads.append(ask_for(server, body, clients=clients, seconds=options.seconds))
                    say(loads[-1].line)
    return loads


def resident(model: Path, folder: Path, options: argparse.Namespace) -> tuple[int, int]:
    """Bytes that the server's process holds after a tenth of the requests, and after all."""
    with our_server(model, folder / "memory.log") as server:
        body = _clip(1.0)
        found = []
        for count in (options.requests // 10, options.requests - options.requests // 10):
            load = ask_for(server, body, clients=8, requests=count, kind="audio/wav")
            found.append(server.resident)
            say(f"{load.line}; {found[-1] / 2**20:.1f} MiB")
    return found[0], found[1]


def page(model: Path, folder: Path) -> list[Row]:
    """The server's page, in a browser."""
    recording = folder / "speech.wav"
    recording.write_bytes(_clip(PAGE_SECONDS))
    with our_server(model, folder / "page.log") as server:
        return page_rows(f"http://127.0.0.1:{server.port}", recording)


def speed_rows(model: str, loads: Sequence[Load]) -> list[Row]:
    """Clips per second, p95 and processor time at each number of clients; the median of the rounds."""
    rows = []
    for clients in sorted({load.clients for load in loads}):
        mine, theirs = (
            [load for load in loads if load.clients == clients and load.server == name] for name in Serving.NAMES
        )
        rate, peer = (statistics.median(load.rate for load in some) for some in (mine, theirs))
        late, peer_late = (statistics.median(load.p95 for load in some) for some in (mine, theirs))
        cost, peer_cost = (statistics.median(load.cost for load in some) for some in (mine, theirs))
        told = f"mlflow models serve, {peer:.3g}"
        reach = AIM if clients == AT else None
        rows.append(Row(f"clips a second, {clients} clients, {model}", rate, "clips/s", told, rate / peer, reach))
        rows.append(
            Row(
                f"p95, {clients} clients, {model}",
                1000 * late,
                "ms",
                f"mlflow, {1000 * peer_late:.0f} ms",
                peer_late / late,
            )
        )
        what = f"processor time a clip, {clients} clients, {model}"
        rows.append(Row(what, 1000 * cost, "ms", f"mlflow, {1000 * peer_cost:.0f} ms", peer_cost / cost))
    return rows


def memory_rows(memory: tuple[int, int], requests: int) -> list[Row]:
    """Memory of the server's process."""
    first, last = memory
    return [
        Row(
            f"memory after {requests:,} requests", last / 2**20, "MiB", f"after {requests // 10:,}", first / last,
            reach=FLAT,
        )
    ]  # fmt: skip


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a voice model (default: two of random experts)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of all measurements (default: %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS), help="at once (default: 1 8 32 64)")
    parser.add_argument("--requests", type=int, default=20_000, help="of the memory (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/serve.json"), help="where the rows go")
    return parser


def _clip(seconds: float) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, find_speech().samples[: round(seconds * SAMPLE_RATE)], SAMPLE_RATE, format="WAV")
    return buffer.getvalue()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
