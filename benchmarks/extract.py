"""The extraction's speed against what people write today and against the machine: `python -m benchmarks.extract`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
import transformers
from transformers import WhisperConfig, WhisperForConditionalGeneration

from benchmarks.budget import plan_runs
from benchmarks.peers import MatmulRate, Peer, with_ctranslate2, with_transformers
from benchmarks.rows import Row, interleaved_seconds, publish, seconds_of
from benchmarks.states import default_corpus, spread
from cache.extraction import ExtractionReport, extract
from cache.maintenance import verify
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.corpora import open_corpus
from emonet.encoders import FrozenEncoder
from emonet.errors import EmonetError
from emonet.runtime import resolve_device
from experiments.core import say

OURS = "emonet extract"
PROBE = "probe"  # folder of what does not count
TODAY = "float32, one clip at a time"
BATCHES = (4, 8)  # clips per pass of those who batch
HEAD_WIDTH = 64  # of every Whisper
NOTES = (
    "emonet extract: cache.extraction.extract into an empty store, then cache.maintenance.verify(deep=True).",
    "float32, one clip at a time: decode, WhisperFeatureExtractor, float32 WhisperModel.encoder, np.savez in float16.",
    "bf16, N at a time: the same with N clips per pass and all weights in bf16.",
    "CTranslate2: decode, WhisperFeatureExtractor, Whisper.encode in its fastest type here, np.savez in float16.",
    "The limit: the encoder's convolutions, linear layers and attention products at the best matmul rate of this run.",
    "Models are loaded before, and have had one clip; whom that shows to be too slow for the time is left out.",
    "Runs take turns, so that a machine's noise hits all alike.",
)


@dataclass
class Ours:
    """Our extraction, and what it reported.

    Args:
        encoder: loaded.
        corpus: its clips are extracted.
        folder: for the stores.
    """

    encoder: FrozenEncoder
    corpus: Corpus
    folder: Path
    reports: list[ExtractionReport] = field(default_factory=list)

    def run(self) -> None:
        """One more extraction into a store of its own, verified.

        Raises:
            EmonetError: if the store is not whole.
        """
        path = self.folder / f"{len(self.reports)}-{len(self.corpus)}.zarr"
        self.reports.append(extract(self.corpus, self.encoder, path, ExtractionConfig(), source="random weights"))
        found = verify(path, deep=True)
        if found.problems or found.failed:
            raise EmonetError("the store is not whole", where=path, found="; ".join(found.problems) or "failed clips")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write runs/bench/extract.json."""
    options = command_line().parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    device, speech = resolve_device(options.device), open_corpus(options.corpus)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        captioner = options.captioner or save_captioner(
            folder / "captioner", width=options.width, layers=options.layers
        )
        encoder = FrozenEncoder.load(str(captioner), device=str(device))
        first = spread(speech, 1)
        peers, types = open_peers(captioner, folder, device, first)
        probed = probe(Ours(encoder, first, folder / PROBE), peers)
        plan = plan_runs(probed, keep=OURS, seconds=deadline - time.monotonic(), clips=options.clips, runs=options.runs)
        left_out = missing_peers(device) + [
            f"{name}: {one:.1f} s a clip; with it, the benchmark would take more than {options.minutes:g} minutes"
            for name, one in plan.left_out.items()
        ]
        for line in left_out:
            say(f"left out: {line}")
        corpus = repeated(spread(speech, plan.clips), plan.clips)
        ours, rate = Ours(encoder, corpus, folder), matmul_rate(encoder)
        peers = {name: peer for name, peer in peers.items() if name not in plan.left_out}
        taken = measure(ours, peers, rate, runs=options.runs)
    seconds = {name: statistics.median(runs) / len(corpus) for name, runs in taken.items()}
    rows = speed_rows(seconds, ours.encoder.flops_per_clip / rate.best, device.type) + own_rows(ours, rate)
    about = {
        "notes": NOTES,
        "left out": left_out,
        "clips": f"{len(corpus)} of {corpus.name}, padded to 30 s",
        "encoder": f"{encoder.layers[-1]} layers, width {encoder.width}, {options.captioner or 'random weights'}",
        "precision": ours.encoder.precision,
        "device": str(device),
        "seconds of each run": {name: [round(one, 3) for one in runs] for name, runs in taken.items()},
        "seconds of the first clip": {name: round(one, 3) for name, one in probed.items()},
        "CTranslate2, seconds per clip in each type": types,
        "matmul TFLOP/s": {name: round(one / 1e12, 4) for name, one in rate.medians().items()},
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "load average at the end": os.getloadavg(),
    }
    title = f"extraction of {len(corpus)} clips, median of {options.runs} runs"
    publish(rows, options.out, title=title, about=about)


def save_captioner(folder: Path, *, width: int, layers: int) -> Path:
    """Write a Whisper with random weights, whose decoder is only as large as converters ask for."""
    heads = width // HEAD_WIDTH
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = WhisperConfig(
            d_model=width, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=4 * width,
            decoder_layers=1, decoder_attention_heads=heads, decoder_ffn_dim=4 * width,
        )  # fmt: skip
        WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


def repeated(corpus: Corpus, clips: int) -> Corpus:
    """A corpus that has its clips again, under other ids, until there are `clips` of them."""
    source = corpus.clips
    again = (replace(source[row % len(source)], id=f"{source[row % len(source)].id}/{row}") for row in range(clips))
    return replace(corpus, clips=tuple(again), rejected=())


def missing_peers(device: torch.device) -> list[str]:
    """Who would take part on this device if it were installed, one line each."""
    absent = device.type == "cpu" and importlib.util.find_spec("ctranslate2") is None
    return ["CTranslate2: ctranslate2 is not installed"] if absent else []


def open_peers(
    captioner: Path, folder: Path, device: torch.device, corpus: Corpus
) -> tuple[dict[str, Peer], dict[str, float]]:
    """The contestants by name, and the seconds per clip of each of CTranslate2's types.

    Args:
        captioner: folder of a Whisper.
        folder: for what it is converted to.
        device: where they compute.
        corpus: its first clips are what types are tried on.
    """
    peers = {TODAY: with_transformers(captioner, device, dtype=torch.float32, batch_size=1)}
    for size in BATCHES:
        peers[f"bf16, {size} at a time"] = with_transformers(captioner, device, dtype=torch.bfloat16, batch_size=size)
    if device.type != "cpu" or missing_peers(device):
        return peers, {}
    kind, peer, probed = with_ctranslate2(captioner, folder, corpus.clips)
    return peers | {f"CTranslate2, {kind}": peer}, probed


def matmul_rate(encoder: FrozenEncoder) -> MatmulRate:
    """Measures products of this encoder's shapes in its arithmetic."""
    dtype = torch.bfloat16 if encoder.precision == "bf16" else torch.float32
    return MatmulRate(encoder.device, dtype, frames=encoder.window.frames, width=encoder.width)


def probe(ours: Ours, peers: Mapping[str, Peer]) -> dict[str, float]:
    """Seconds per clip of each contestant's first clips; what they find in memory afterwards, they have from here."""
    return {name: seconds_of(call) / len(ours.corpus) for name, call in contest(ours, peers).items()}


def measure(ours: Ours, peers: Mapping[str, Peer], rate: MatmulRate, *, runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each contestant, in turn."""
    taken = interleaved_seconds({**contest(ours, peers), "matmul": rate.measure}, repeats=runs, warmup=0)
    del taken["matmul"]
    return taken


def contest(ours: Ours, peers: Mapping[str, Peer]) -> dict[str, Callable[[], None]]:
    """What each contestant does, over the same clips, into folders below `ours.folder`."""
    calls: dict[str, Callable[[], None]] = {OURS: ours.run}
    for number, (name, peer) in enumerate(peers.items()):
        folder = ours.folder / f"peer-{number}"
        folder.mkdir(parents=True)
        calls[name] = partial(peer, ours.corpus.clips, folder)
    return calls


def speed_rows(seconds: Mapping[str, float], limit: float, kind: str) -> list[Row]:
    """Our seconds per clip against everyone else's, and against the limit."""
    ours = seconds[OURS]
    peers = {name: one for name, one in seconds.items() if name != OURS}
    against = [
        Row(OURS, ours, "s/clip", name, one / ours, reach=3.5 if name == TODAY else 1.0) for name, one in peers.items()
    ]
    against.append(
        Row(OURS, ours, "s/clip", "the machine's limit", limit / ours, reach=0.45 if kind == "cuda" else 0.6)
    )
    return [*against, *(Row(name, one, "s/clip") for name, one in peers.items()), Row("limit", limit, "s/clip")]


def own_rows(ours: Ours, rate: MatmulRate) -> list[Row]:
    """What the extraction said of itself."""

    def median(name: str) -> float:
        return statistics.median(float(getattr(report, name)) for report in ours.reports)

    tflops, best = median("encoder_tflops"), rate.best / 1e12
    return [
        Row("encoder alone", tflops, "TFLOP/s", "best matmul rate", tflops / best),
        Row("best matmul rate", best, "TFLOP/s"),
        Row("encoder at work", 100 * median("encoder_share"), "% of the time"),
        Row("written", median("megabytes_per_second"), "MB/s"),
    ]


def versions() -> dict[str, str]:
    """Of what is compared."""
    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    try:
        import ctranslate2
    except ImportError:
        return found
    return found | {"ctranslate2": ctranslate2.__version__}


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extract", description=__doc__)
    parser.add_argument("--corpus", default=default_corpus(), help="real speech (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=24, help="at most, spread over the corpus (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="that it may take (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each contestant (default: %(default)s)")
    parser.add_argument("--device", help="e.g. cuda (default: the first GPU, else cpu)")
    parser.add_argument("--captioner", type=Path, help="folder of a Whisper (default: one with random weights)")
    parser.add_argument("--width", type=int, default=768, help="of the encoder (default: %(default)s, Whisper small)")
    parser.add_argument("--layers", type=int, default=12, help="of the encoder (default: %(default)s, Whisper small)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/extract.json"), help="where the rows go")
    return parser


if __name__ == "__main__":
    main()
