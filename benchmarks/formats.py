"""What else people keep encoder states in: each format through its library's own interface, one clip per unit."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, Float16, Int

BATCH = 32  # clips that are read at once
SHARD = 64  # clips per file, where a format has shards; that of the feature store

States = Float16[np.ndarray, "clips frames width"]
Decoded = Float[np.ndarray, "batch frames width"]  # float16, except of lilcom, which gives float32
Rows = Int[np.ndarray, " batch"]


class Reader(ABC):
    """Stored states, opened.

    Args:
        folder: what `Format.write` filled.
    """

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @abstractmethod
    def __len__(self) -> int:
        """Stored clips (count)."""

    @abstractmethod
    def read(self, rows: Rows) -> Decoded:
        """The states of `rows`, in that order, in new memory."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and maps."""

    def sequential(self) -> Iterator[Decoded]:
        """All states in order, in batches."""
        for first in range(0, len(self), BATCH):
            yield self.read(np.arange(first, min(first + BATCH, len(self))))

    def shuffled(self, seed: int) -> Iterator[Decoded]:
        """All states once, in random batches."""
        order = np.random.default_rng(seed).permutation(len(self))
        for first in range(0, len(self), BATCH):
            yield self.read(order[first : first + BATCH])


@dataclass(frozen=True)
class Format:
    """A way to keep states.

    Args:
        name: in tables, e.g. `HDF5, gzip 9`.
        write: fills an empty folder.
        reader: opens such a folder.
        package: the distribution that it needs beyond our own, if any.
        exact: gives back every bit.
        threads: what works at once, in words.
        main: the form of its library that rows compare with; tables show the others too.
        loader: of (folder, seed, clips a batch), one shuffled epoch through a loader that the format brings.
    """

    name: str
    write: Callable[[Path, States], None]
    reader: Callable[[Path], Reader]
    package: str = ""
    exact: bool = True
    threads: str = "1 thread"
    main: bool = False
    loader: Callable[[Path, int, int], Iterator[Decoded]] | None = None

    @property
    def missing(self) -> bool:
        """Whether the package it needs is not installed."""
        return bool(self.package) and importlib.util.find_spec(self.package) is None

    @property
    def version(self) -> str:
        """Of the package, e.g. `h5py 3.16.0`; of numpy where it needs no other."""
        package = self.package or "numpy"
        return f"{package} {importlib.metadata.version(package)}"


def write_memmap(folder: Path, states: States) -> None:
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(
        folder / "states.npy", mode="w+", dtype=states.dtype, shape=states.shape
    )
    array[:] = states
    array.flush()


@final
class MemmapReader(Reader):
    """One .npy file, mapped."""

    def __init__(self, folder: Path) -> None:
        self._array: Any = np.load(folder / "states.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._array)

    def read(self, rows: Rows) -> Decoded:
        return np.asarray(self._array[rows])

    def close(self) -> None:
        self._array = None  # the map goes with its last array


def write_npz(folder: Path, states: States, *, compressed: bool) -> None:
    save = np.savez_compressed if compressed else np.savez
    for row, clip in enumerate(states):
        save(folder / f"{row:06d}.npz", states=clip)


@final
class NpzReader(Reader):
    """One .npz file per clip."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.glob("*.npz"))

    def __len__(self) -> int:
        return len(self._files)

    def read(self, rows: Rows) -> Decoded:
        return np.stack([self._load(self._files[row]) for row in rows])

    def close(self) -> None: ...

    @staticmethod
    def _load(file: Path) -> np.ndarray:
        with np.load(file) as archive:
            states: np.ndarray = archive["states"]
        return states


def write_hdf5(folder: Path, states: States, **compression: Any) -> None:
    import h5py

    with h5py.File(folder / "states.h5", "w", libver="latest") as file:
        chunk = (1, *states.shape[1:])
        dataset = file.create_dataset("states", states.shape, states.dtype, chunks=chunk, **compression)
        for first in range(0, len(states), BATCH):
            dataset[first : first + BATCH] = states[first : first + BATCH]


@final
class Hdf5Reader(Reader):
    """One data set, a chunk per clip."""

    def __init__(self, folder: Path) -> None:
        import h5py

        self._file: Any = h5py.File(folder / "states.h5")
        self._states: Any = self._file["states"]

    def __len__(self) -> int:
        return len(self._states)

    def read(self, rows: Rows) -> Decoded:
        batch = np.empty((len(rows), *self._states.shape[1:]), np.float16)
        for place, row in enumerate(rows):  # 8 times as fast as indexing with a list of rows
            self._states.read_direct(batch, np.s_[row], np.s_[place])
        return batch

    def sequential(self) -> Iterator[Decoded]:
        for first in range(0, len(self), BATCH):
            yield self._states[first : first + BATCH]

    def close(self) -> None:
        self._file.close()


def write_lilcom(folder: Path, states: States) -> None:
    from lhotse.features.io import LilcomChunkyWriter

    with LilcomChunkyWriter(folder / "states") as writer:  # its default accuracy: multiples of 2^-5
        keys = [writer.write(str(row), clip) for row, clip in enumerate(states)]
    (folder / "keys.txt").write_text("\n".join(keys))


@final
class LilcomReader(Reader):
    """lhotse's archive of lilcom chunks (500 frames each); a manifest would keep the keys."""

    def __init__(self, folder: Path) -> None:
        from lhotse.features.io import LilcomChunkyReader

        self._keys = (folder / "keys.txt").read_text().split("\n")
        self._reader: Any = LilcomChunkyReader(folder / "states.lca")

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, rows: Rows) -> Decoded:
        return np.stack([self._reader.read(self._keys[row]) for row in rows])

    def close(self) -> None: ...


def write_arrow(folder: Path, states: States, *, shaped: bool) -> None:
    import datasets
    from datasets.arrow_writer import ArrowWriter

    datasets.disable_progress_bars()
    number = datasets.Value("float16")
    # A list of lists is what `Dataset.from_generator` makes of a matrix whose feature nobody declares.
    feature = datasets.Array2D(states.shape[1:], "float16") if shaped else datasets.List(datasets.List(number))
    with ArrowWriter(path=str(folder / "states.arrow"), features=datasets.Features(states=feature)) as writer:
        for first in range(0, len(states), BATCH):
            writer.write_batch({"states": states[first : first + BATCH]})
        writer.finalize()


@final
class ArrowReader(Reader):
    """A Hugging Face dataset over one mapped Arrow file."""

    def __init__(self, folder: Path) -> None:
        import datasets

        self._dataset: Any = datasets.Dataset.from_file(str(folder / "states.arrow"))
        self._dataset = self._dataset.with_format("numpy", dtype=np.float16)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, rows: Rows) -> Decoded:
        return np.asarray(self._dataset[rows]["states"])

    def sequential(self) -> Iterator[Decoded]:
        for batch in self._dataset.iter(BATCH):
            yield np.asarray(batch["states"])

    def close(self) -> None:
        self._dataset = None  # the map goes with its last table


def write_webdataset(folder: Path, states: States) -> None:
    import webdataset

    with webdataset.ShardWriter(str(folder / "states-%05d.tar"), maxcount=SHARD, verbose=0) as writer:
        for row, clip in enumerate(states):
            writer.write({"__key__": f"{row:06d}", "npy": clip})


@final
class WebDatasetReader(Reader):
    """Tar files of .npy: a stream, in order or shuffled in a buffer; it offers no single rows."""

    def __init__(self, folder: Path) -> None:
        self._shards = [str(file) for file in sorted(folder.glob("*.tar"))]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.sequential())

    def read(self, rows: Rows) -> Decoded:
        """The states of `rows`, which must be the first ones: no other can be reached without reading it all."""
        assert np.array_equal(rows, np.arange(len(rows))), "a stream has no single rows"
        return np.concatenate(list(itertools.islice(self.sequential(), -(-len(rows) // BATCH))))[: len(rows)]

    def sequential(self) -> Iterator[Decoded]:
        return self._stream(shuffle=0, seed=0)

    def shuffled(self, seed: int) -> Iterator[Decoded]:
        return self._stream(shuffle=4 * BATCH, seed=seed)

    def close(self) -> None: ...

    def _stream(self, *, shuffle: int, seed: int) -> Iterator[Decoded]:
        import webdataset

        stream = webdataset.WebDataset(self._shards, shardshuffle=len(self._shards) if shuffle else False, seed=seed)
        if shuffle:
            stream = stream.shuffle(shuffle, seed=seed)
        for (batch,) in stream.decode().to_tuple("npy").batched(BATCH):
            yield batch


def peers() -> Sequence[Format]:
    """All formats that are not ours; some may be missing from this machine."""
    gzip = partial(write_hdf5, compression="gzip", shuffle=True)
    return (
        Format("np.memmap", write_memmap, MemmapReader, main=True),
        Format(".npz per clip", partial(write_npz, compressed=False), NpzReader),
        Format(".npz per clip, compressed", partial(write_npz, compressed=True), NpzReader, main=True),
        Format("HDF5, raw", write_hdf5, Hdf5Reader, "h5py"),
        Format("HDF5, lzf", partial(write_hdf5, compression="lzf", shuffle=True), Hdf5Reader, "h5py"),
        Format("HDF5, gzip 4", partial(gzip, compression_opts=4), Hdf5Reader, "h5py"),
        Format("HDF5, gzip 9", partial(gzip, compression_opts=9), Hdf5Reader, "h5py", main=True),
        Format("lhotse LilcomChunky", write_lilcom, LilcomReader, "lhotse", exact=False, main=True),
        Format("datasets, Array2D", partial(write_arrow, shaped=True), ArrowReader, "datasets", main=True),
        Format("datasets, lists", partial(write_arrow, shaped=False), ArrowReader, "datasets"),
        Format("WebDataset", write_webdataset, WebDatasetReader, "webdataset", main=True),
    )
