"""Exported models: size, speed and differences of ONNX files against torch and CTranslate2; rows of `benchmarks.serve`.

`python -m benchmarks.onnx` measures them alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.extract import versions
from benchmarks.rows import Row, interleaved_seconds, publish
from benchmarks.use_model import WINDOW, find_speech, find_whisper, make_voice, threads
from emonet import EmotionPipeline
from emonet.audio import LogMel
from emonet.encoders import WhisperEncoder
from emonet.exporting import OnnxExport, compare, export_onnx
from emonet.inference import OnnxPipeline, padded
from emonet.runtime import has_bf16
from emonet.windows import SAMPLE_RATE

CLIPS, STEP = 8, 1.3  # and seconds from the beginning of one to that of the next
PARITY = 1e-3  # largest difference that scores in float32 may have, on a scale of 0 to 4
PRECISIONS = ("float32", "int8")
NOTES = (
    "whole model: sounds in memory to scores; Whisper base's last layer, 6 s, 40 random experts; torch in float32 and, "
    "where the processor has it, bf16, ONNX Runtime in float32 and int8: the same clips, in turns, on the same cores.",
    "encoder alone: one clip after the other; ours from sound to states, and faster-whisper's (CTranslate2's encode) "
    "from log-mel frames that were there before, so that its own feature extraction does not count.",
    "differences: to torch in float32; of states as a share of them (root mean square, of the clip where it is "
    "largest).",
)
Calls = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        weights: of the encoder, in words.
        rates: who, and what of it -> clips a second, the median of the rounds.
        sizes: who -> bytes on disk.
        scores: precision -> largest difference of scores, on a scale of 0 to 4.
        states: who -> difference of states, as a share of them.
    """

    weights: str
    rates: Mapping[str, float]
    sizes: Mapping[str, int]
    scores: Mapping[str, float]
    states: Mapping[str, float]


def measure(folder: Path, *, rounds: int) -> Measured:
    """Export a voice model in both precisions, and compare.

    Args:
        folder: an empty one.
        rounds: of all measurements.
    """
    whisper, weights = find_whisper(folder)
    (folder / "made").mkdir()
    voice = make_voice(whisper, folder / "made", layers="last")
    model = EmotionPipeline.from_folder(voice, precision="float32", device="cpu")
    clips = _clips(model.encoder.window.samples)
    made = {one: _export(model, folder / one, one) for one in PRECISIONS}
    exported = {one: EmotionPipeline.from_onnx(folder / one) for one in PRECISIONS}
    torches = {"float32": model}
    if has_bf16(torch.device("cpu")):
        torches["bf16"] = EmotionPipeline.from_folder(voice, precision="bf16", device="cpu")
    waveforms = padded(clips, model.encoder.window)
    calls: Calls = {f"torch {name}": partial(one.score_samples, clips) for name, one in torches.items()}
    calls |= {f"ONNX {name}": partial(one.score_samples, clips) for name, one in exported.items()}
    calls |= {f"ONNX {name} encoder": partial(_states, one, waveforms) for name, one in exported.items()}
    wanted = model.encoder.states(torch.from_numpy(waveforms)).float().numpy()
    differences = {name: compare(model, one, clips) for name, one in exported.items()}
    states = {f"ONNX {name}": found.states for name, found in differences.items()}
    if importlib.util.find_spec("ctranslate2") is not None:
        peers = _ctranslate2(whisper, folder / "converted", waveforms)
        calls |= {f"{name} encoder": peer for name, peer in peers.items()}
        states |= {name: _apart(np.concatenate(peer()), wanted) for name, peer in peers.items()}
    taken = interleaved_seconds(calls, repeats=rounds)
    return Measured(
        weights,
        rates={name: len(clips) / statistics.median(some) for name, some in taken.items()},
        sizes={"torch float32": _size(voice)}
        | {f"ONNX {name}": sum(file.size for file in one.files.values()) for name, one in made.items()},
        scores={name: found.largest for name, found in differences.items()},
        states=states,
    )


def onnx_rows(found: Measured) -> list[Row]:
    """The table."""
    rows = []
    for name in PRECISIONS:
        mine = f"ONNX {name}"
        for peer in ("torch float32", "torch bf16"):
            rows += _rate(f"{mine}: clips a second, whole model", found.rates, mine, peer)
        rows += _rate(
            f"{mine}: clips a second, encoder alone", found.rates, f"{mine} encoder", f"faster-whisper {name} encoder"
        )
        size, peer_size = found.sizes[mine], found.sizes["torch float32"]
        told = f"the voice model, {peer_size / 1e6:.1f} MB"
        rows.append(Row(f"{mine}: size", size / 1e6, "MB", told, peer_size / size))
        largest = found.scores[name]
        exact = name == "float32"
        rows.append(
            Row(
                f"{mine}: largest difference of a score to torch float32", largest, "of 0 to 4", f"{PARITY:g}",
                PARITY / max(largest, 1e-12), 1.0 if exact else None,
            )
        )  # fmt: skip
        other = found.states.get(f"faster-whisper {name}")
        told = "" if other is None else f"faster-whisper {name}, {other:.2g}"
        ratio = None if other is None else other / max(found.states[mine], 1e-12)
        rows.append(Row(f"{mine}: difference of states", found.states[mine], "of theirs", told, ratio))
    return rows


def _rate(what: str, rates: Mapping[str, float], mine: str, peer: str) -> list[Row]:
    if peer not in rates:
        return []
    told = f"{peer.removesuffix(' encoder')}, {rates[peer]:.3g}"
    return [Row(what, rates[mine], "clips/s", told, rates[mine] / rates[peer])]


def _export(model: EmotionPipeline, folder: Path, precision: Any) -> OnnxExport:
    return export_onnx(model, folder, name="benchmark", precision=precision)


def _clips(samples: int) -> list[np.ndarray]:
    """Parts of the speech, each as long as the window."""
    speech = find_speech().samples
    whole = np.tile(speech, 1 + samples // len(speech) + 1)
    starts = (round(number * STEP * SAMPLE_RATE) % len(speech) for number in range(CLIPS))
    return [np.ascontiguousarray(whole[start : start + samples]) for start in starts]


def _states(exported: OnnxPipeline, waveforms: np.ndarray) -> None:
    for row in range(len(waveforms)):
        exported.states(waveforms[row : row + 1])


def _ctranslate2(whisper: Path, folder: Path, waveforms: np.ndarray) -> dict[str, Callable[[], list[np.ndarray]]]:
    """CTranslate2's encoder, which faster-whisper runs, in its types of the same names; gives each clip's states."""
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(whisper)).convert(str(folder))
    mels = LogMel(WhisperEncoder.read(whisper).mels)
    frames = [mels(torch.from_numpy(waveforms[row : row + 1])).numpy() for row in range(len(waveforms))]

    def peer(precision: str) -> Callable[[], list[np.ndarray]]:
        model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type=precision, intra_threads=threads())
        views = [ctranslate2.StorageView.from_array(one) for one in frames]
        return lambda: [np.array(model.encode(one)).astype(np.float32) for one in views]

    there = ctranslate2.get_supported_compute_types("cpu")
    return {f"faster-whisper {one}": peer(one) for one in PRECISIONS if one in there}


def _apart(found: np.ndarray, wanted: np.ndarray) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs)) for mine, theirs in pairs)


def _size(folder: Path) -> int:
    """Of a voice model's weights."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/onnx.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of all measurements (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/onnx.json"), help="where the rows go")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch), rounds=options.rounds)
    about = {"notes": NOTES, "measurements": vars(found), "clips": CLIPS, "window": WINDOW}
    about |= {"rounds": options.rounds, "threads": threads(), "versions": versions()}
    publish(onnx_rows(found), options.out, title=f"exported to ONNX: {found.weights}", about=about)


if __name__ == "__main__":
    main()
