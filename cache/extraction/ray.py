"""Extraction on a Ray cluster: this process prepares the store and hands out shards; workers fill them."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from cache.extraction.crew import Crew
from cache.extraction.ledger import Ledger
from cache.extraction.report import ExtractionReport
from cache.extraction.run import check_request, report_of
from cache.extraction.worker import Job, Receipt
from cache.store import Place, marked_shards, marker_file, read_markers
from cache.writing import Notices, Part, StoreWriter, written_at
from emonet.clips import Corpus
from emonet.configs import ExtractionConfig
from emonet.errors import EmonetError, RequestError
from emonet.objects import size_of
from emonet.runtime import Cluster, Progress, connected, durable, has_ray, ignore, resolve_device, versions

MOST = 8  # processors of a worker without a GPU: beyond it a second worker gains more
_SEEN = 60.0  # seconds until a network drive shows what other nodes have written
_GPUS = "CUDA_VISIBLE_DEVICES"
_NOTED = 6  # nodes whose speeds are shown
_NOTE = 1.0  # seconds between looks at their speeds


def choose(config: ExtractionConfig) -> tuple[str, ...]:
    """The devices of this machine that an extraction is to use: those that it names, or else all GPUs.

    Empty if this process' own will do, or the cluster of an address has its own. Several need Ray.

    Raises:
        RequestError: if it names one that is not there, several without Ray being installed, or an address of a cluster
            that is not asked for.
    """
    if config.engine == "ray":
        if config.devices:
            raise RequestError(
                "on a Ray cluster it is Ray that places workers",
                found=f"--extraction.devices {' '.join(config.devices)}",
                hint="leave out --extraction.devices; CUDA_VISIBLE_DEVICES says which GPUs of this machine Ray may use",
            )
        return ()
    if config.address is not None:
        raise RequestError("an address is for --extraction.engine ray", found=config.address, hint="--engine ray")
    for device in config.devices:
        resolve_device(device)
    if len(config.devices) > 1 and not has_ray():
        raise RequestError(
            "several devices are a Ray cluster of this machine, and Ray is not installed",
            found=f"--extraction.devices {' '.join(config.devices)}",
            hint="pip install 'emonet[ray]'; or the same command once for each, with one device: they share the work",
        )
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return config.devices or (tuple(f"cuda:{gpu}" for gpu in range(gpus)) if gpus > 1 else ())


def extract_on_ray(
    corpus: Corpus,
    place: str,
    path: Place,
    config: ExtractionConfig,
    *,
    source: str,
    devices: Sequence[str] = (),
    force: bool = False,
    progress: Progress = ignore,
    notices: Notices | None = None,
    say: Callable[[str], None] = ignore,
) -> ExtractionReport:
    """`cache.extraction.extract` with the workers of a Ray cluster, to the same bytes.

    Shards of a worker that dies are done by others; the report names it.

    Args:
        corpus: its clips become the rows, in their order.
        place: folder or hub id that each worker loads the encoder from.
        path: the folder NAME.zarr, which all nodes see, or its URL.
        config: how, and which cluster.
        source: where the encoder came from, for the record.
        devices: of this machine alone, one worker on each; one may stand several times.
        force: start anew where a store already exists.
        progress: called with clips done.
        notices: called before it begins.
        say: takes lines about nodes and workers that are lost or left out.

    Raises:
        RequestError: as `extract` does, and if the cluster or all of its nodes cannot be used.
        EmonetError: as `extract` does, and if another process writes this store.
    """
    started = time.monotonic()
    check_request(corpus, config)
    path = path.resolve()
    with durable.explained(path.parent):
        written_at(path).open()
    if config.num_shards == 1:
        _require_alone(path)
    with _visible(devices) as gpus, connected(config.address, alone=bool(devices), gpus=gpus) as cluster:
        share = _share(cluster, config, devices)
        with _probe(path) as probe:
            job = Job(
                corpus,
                _absolute(place),
                path,
                config,
                source,
                share.device,
                share.processors,
                Path.cwd(),
                _audio(corpus),
                probe,
                versions(),
            )
            with Crew(cluster, share.options, job, say) as crew:
                driver = _Driver(crew, corpus, path, config, progress)
                return driver.run(share.workers, force=force, notices=notices, started=started)


@final
class _Driver:
    """One extraction, as the process sees it that hands out its shards."""

    def __init__(self, crew: Crew, corpus: Corpus, path: Place, config: ExtractionConfig, progress: Progress) -> None:
        self._crew = crew
        self._corpus = corpus
        self._path = path
        self._config = config
        self._progress = progress
        self._ledger = Ledger(corpus, config)
        self._done = self._shown = 0  # clips
        self._note, self._noted = "", -_NOTE  # how fast, and when that was looked at

    def run(self, workers: int, *, force: bool, notices: Notices | None, started: float) -> ExtractionReport:
        """Prepare the store, have its shards filled, and finish it."""
        shards = -(-len(self._corpus) // self._config.shard_clips)
        left = shards if force else len(set(range(shards)) - marked_shards(self._path))
        record = self._crew.first(max(1, min(workers, left)))
        writer = StoreWriter(
            self._path,
            record,
            self._corpus,
            force=force,
            part=Part(self._config.num_shards, self._config.shard_index),
            silence=lambda: self._crew.silence(record),
            any_batch_size=self._config.batch_size == "auto",
            notices=notices,
        )
        with writer:
            self._await(writer, self._fill(writer))
            report = report_of(writer, self._corpus, self._crew.decoders, self._crew.speed, started)
        return ExtractionReport.model_validate(
            {**dict(report), "lost": tuple(self._crew.lost), "nodes": self._crew.shares()}
        )

    def _fill(self, writer: StoreWriter) -> set[int]:
        """Have all shards filled that are not there; which they were."""
        pending = writer.pending()
        there = sorted(set(range(writer.record.shards)).difference(pending))
        for marker in read_markers(writer.path, writer.record, there):
            self._ledger.read(writer.record, marker)
        self._ledger.check()
        mine = writer.claim_all()
        if self._config.num_shards == 1 and mine != pending:
            raise _written_by_another(self._path)
        self._done = len(self._corpus) - sum(len(writer.record.rows(shard)) for shard in pending)
        self._show()

        def done(receipt: Receipt) -> None:
            writer.settle(receipt.marker.shard)
            self._done += len(receipt.marker.seconds)
            self._ledger.read(writer.record, receipt.marker)
            self._ledger.check()

        self._crew.fill(mine, writer.record, done, self._show)
        return set(mine)

    def _await(self, writer: StoreWriter, written: set[int]) -> None:
        """See on this machine what was written on others."""
        until = time.monotonic() + _SEEN
        while pending := sorted(written.intersection(writer.pending())):
            writer.require_there()
            if time.monotonic() > until:
                raise EmonetError(
                    "this machine does not see what the workers have written",
                    where=marker_file(self._path, pending[0]),
                    hint="a file system that all nodes share; the same command again, once it shows the files",
                )
            time.sleep(0.5)

    def _show(self) -> None:
        self._shown = max(self._shown, min(self._done + self._crew.clips, len(self._corpus)))
        if self._shown == len(self._corpus) or time.monotonic() - self._noted >= _NOTE:
            self._noted = time.monotonic()
            self._note = self._speeds()
        self._progress(self._shown, len(self._corpus), self._note)

    def _speeds(self) -> str:
        shares = self._crew.shares()
        each = [f"{name} {share.clips_per_second:.1f}/s" for name, share in list(shares.items())[:_NOTED]]
        more = [f"{len(shares) - _NOTED} more nodes"] if len(shares) > _NOTED else []
        return "; ".join(filter(None, [self._crew.speed.note(), ", ".join([*each, *more])]))


@dataclass(frozen=True)
class _Share:
    """What of the cluster each worker gets.

    Args:
        processors: of a worker (count).
        gpus: of a worker (count).
        device: that it computes on; None: its GPU.
        workers: that there is room for now (count).
    """

    processors: int
    gpus: float
    device: str | None
    workers: int

    @property
    def options(self) -> dict[str, Any]:
        return {"num_cpus": self.processors, "num_gpus": self.gpus}


def _share(cluster: Cluster, config: ExtractionConfig, devices: Sequence[str]) -> _Share:
    nodes = [node["Resources"] for node in cluster.nodes if node["Resources"].get("CPU")]
    asked = None if config.processors_per_worker == "auto" else config.processors_per_worker
    if devices:
        gpus = 0.0 if devices[0].startswith("cpu") else len(set(devices)) / len(devices)
        each = asked or max(1, int(sum(node["CPU"] for node in nodes)) // len(devices))
        return _Share(each, gpus, "cpu" if not gpus else None, len(devices))
    with_gpu = [node for node in nodes if node.get("GPU")]
    if with_gpu:
        each = asked or max(1, min(int(node["CPU"] / node["GPU"]) for node in with_gpu))
        room = sum(int(min(node["GPU"], node["CPU"] // each)) for node in with_gpu)
        return _Share(each, 1.0, None, room)
    each = asked or min([MOST, *(max(1, int(node["CPU"])) for node in nodes)])
    return _Share(each, 0.0, "cpu", sum(int(node["CPU"] // each) for node in nodes))


@contextmanager
def _visible(devices: Sequence[str]) -> Iterator[int | None]:
    """Within the block, a cluster that is started has the GPUs of these devices; how many they are, None for all.

    Raises:
        RequestError: if the devices are of several kinds, or not equally often there.
    """
    if not devices:
        yield None
        return
    kinds = {device.partition(":")[0] for device in devices}
    if len(kinds) > 1 or len(set(Counter(devices).values())) > 1:
        raise RequestError(
            "devices that share an extraction must be of one kind, and each as often as the others",
            found=f"--extraction.devices {' '.join(devices)}",
        )
    if kinds != {"cuda"}:
        yield 0
        return
    before = os.environ.get(_GPUS)
    there = None if before is None else before.split(",")
    chosen = sorted({int(device.partition(":")[2] or 0) for device in devices})
    os.environ[_GPUS] = ",".join(str(gpu) if there is None else there[gpu] for gpu in chosen)
    try:
        yield len(chosen)
    finally:
        os.environ.pop(_GPUS)
        if before is not None:
            os.environ[_GPUS] = before


@contextmanager
def _probe(path: Place) -> Iterator[tuple[Place, str]]:
    """A file beside the store, by which workers tell whether they see its folder, or may read its bucket."""
    content = uuid.uuid4().hex
    file = path.parent / f".{path.name}.{content[:8]}.probe"
    with durable.explained(path.parent):
        if isinstance(file, Path):
            file.write_text(content, "utf-8")
        else:
            file.parent.objects.write(file.name, content.encode())
    try:
        yield file, content
    finally:
        if isinstance(file, Path):
            file.unlink(missing_ok=True)
        else:
            file.parent.objects.delete([file.name])


def _require_alone(path: Place) -> None:
    """That nobody writes the store, before anything of the cluster is asked for.

    Raises:
        EmonetError: if somebody does.
    """
    with durable.explained(path.parent), written_at(path).locks as locks:
        if not locks.alone(sure=True):
            raise _written_by_another(path)


def _written_by_another(path: Place) -> EmonetError:
    return EmonetError(
        "another process is writing this store, and on a cluster one process hands out all shards",
        where=path,
        hint="wait until it has finished; or end it, and this command goes on where it stopped",
    )


def _audio(corpus: Corpus) -> str | None:
    """Where some audio of the corpus is, path or address, if this machine sees it."""
    audio = corpus.clips[0].audio
    if isinstance(audio, bytes):
        return None
    location = str(audio) if isinstance(audio, Path) else audio.location
    with suppress(EmonetError, OSError):  # told of each clip
        return None if size_of(location) is None else location
    return None


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if Path(place).is_dir() else place
