"""The Parquet file of a corpus snapshot: its clips as columns, and all else that was found out about it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emonet.clips import AudioColumn, ClipColumns, Clips, Coded, Corpus, Given, Places, Rejection, Sources
from emonet.schema import digest
from emonet.targets import Target, TargetSpec

FORMAT = 2
"""Raise it when what stands in the file changes, or when the same tables and folders are read as other corpora."""
_ABOUT = b"emonet"  # the key of what stands in the file beside its columns
_TEXTS = tuple(one.name for one in fields(ClipColumns) if one.type == "Coded")
_NUMBERS = ("start", "end", "seconds", "weight")
_PLACES = tuple(one.name for one in fields(Places) if one.type != "Coded")
_SCORE, _WEIGHT = "score.", "weight."
_ROWS = 1 << 17  # in a row group


class DamagedError(ValueError):
    """A file is no snapshot of this version, or not the whole of one."""


def write_snapshot(path: Path, corpus: Corpus, sources: Sources, request: str) -> None:
    """Write a corpus that has been checked.

    Args:
        path: of the new file.
        corpus: whole.
        sources: all files that it is made of.
        request: what was asked for, as a digest.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns = corpus.columns
    table = {**_texts(columns), **_numbers(columns), **_audio(columns.audio), **_stamps(columns.audio, sources)}
    for prefix, given in ((_SCORE, columns.scores), (_WEIGHT, columns.weights)):
        table |= {f"{prefix}{name}": _given(given, number) for number, name in enumerate(given.names)}
    about = {
        "format": FORMAT,
        "request": request,
        "columns": {name: str(column.type) for name, column in table.items()},
        "clips": len(corpus),
        "tables": {name: list(stamp) for name, stamp in sources.tables.items()},
        "several": {name: [list(suffixes), names] for name, (suffixes, names) in sources.several.items()},
        "folders": sources.folders,
        "unheard": _unheard(columns.audio, sources),
        "fingerprint": corpus.fingerprint,
        "warnings": corpus.warnings,
        "rejected": [[one.id, one.reason] for one in corpus.rejected],
        "targets": [asdict(target) for target in corpus.targets],
        **{name: getattr(corpus, name) for name in ("name", "note", "remarks")},
        **{name: dict(getattr(corpus, name)) for name in ("passed_over", "classes")},
    }
    text = json.dumps([about, digest(about)])  # what is no Unicode is escaped
    whole = pa.table(table)
    with parquet.ParquetWriter(path, whole.schema, compression="zstd", write_page_checksum=True) as file:
        file.write_table(whole, row_group_size=_ROWS)
        file.add_key_value_metadata({_ABOUT: text})


def read_snapshot(path: Path, request: str) -> tuple[Corpus, Sources]:
    """The corpus of a snapshot, and what it was made of.

    Raises:
        FileNotFoundError: if there is none, or no folder that it could be in (`NotADirectoryError`).
        DamagedError: if it cannot be used.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            about = _about(file.metadata.metadata or {}, request)
            if file.schema_arrow.names != list(about["columns"]) or file.metadata.num_rows != about["clips"]:
                raise DamagedError("its columns are not those that it should have")
            return _corpus(_Reader(file), about)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
        raise DamagedError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


class _Reader:
    """Reads one column after the other, so that never more than one is there twice."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.names: list[str] = file.schema_arrow.names

    def column(self, name: str) -> Any:
        return self._file.read([name], use_threads=True).column(0)

    def numbers(self, name: str) -> NDArray[Any]:
        return np.asarray(self.column(name).to_numpy())

    def texts(self, name: str) -> NDArray[np.object_]:
        return _unescaped(self.column(name).to_numpy())

    def coded(self, name: str) -> Coded:
        whole = self.column(name).unify_dictionaries().combine_chunks()
        whole = whole.chunk(0) if hasattr(whole, "chunk") else whole
        codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        names = _unescaped(whole.dictionary.to_numpy(zero_copy_only=False))
        return Coded(tuple(names.tolist()), codes)

    def given(self, prefix: str) -> Given:
        names = [name for name in self.names if name.startswith(prefix)]
        values = np.empty((self._file.metadata.num_rows, len(names)), order="F")
        present, nan_given = np.empty(values.shape, bool, order="F"), False
        for number, name in enumerate(names):
            column = self.column(name)
            values[:, number], present[:, number] = column.to_numpy(), column.is_valid().to_numpy()
            nan_given |= column.null_count != int(np.isnan(values[:, number]).sum())
        return Given(tuple(name.removeprefix(prefix) for name in names), values, present if nan_given else None)


def _corpus(reader: _Reader, about: Mapping[str, Any]) -> tuple[Corpus, Sources]:
    read: dict[str, Any] = {name: reader.coded(name) for name in _TEXTS}
    read |= {name: reader.numbers(name) for name in _NUMBERS}
    read |= {"scores": reader.given(_SCORE), "weights": reader.given(_WEIGHT)}
    columns = ClipColumns(id=reader.texts("id"), audio=_read_audio(reader), **read)
    sources = Sources(
        tables={name: tuple(stamp) for name, stamp in about["tables"].items()},
        several={name: (tuple(suffixes), names) for name, (suffixes, names) in about["several"].items()},
        folders=about["folders"],
    )
    _read_stamps(sources, columns.audio.location, reader.numbers("file_size"), reader.numbers("file_time"))
    for location, size, time in about["unheard"]:
        sources.recordings.append(location)
        sources.sizes.append(size)
        sources.times.append(time)
    corpus = Corpus.restored(
        fingerprint=about["fingerprint"],
        warnings=tuple(about["warnings"]),
        name=about["name"],
        clips=Clips(columns),
        rejected=tuple(Rejection(*one) for one in about["rejected"]),
        targets=TargetSpec(tuple(_target(fields) for fields in about["targets"])),
        note=about["note"],
        passed_over=about["passed_over"],
        remarks=tuple(about["remarks"]),
        classes=about["classes"],
    )
    return corpus, sources


def _target(fields: Mapping[str, Any]) -> Target:
    values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in fields.items()}
    return Target(**values)


def _about(metadata: Mapping[bytes, bytes], request: str) -> dict[str, Any]:
    try:
        about, written = json.loads(metadata[_ABOUT])
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedError("it does not say what it is") from error
    if written != digest(about):
        raise DamagedError("what it says of itself has changed")
    if about["format"] != FORMAT or about["request"] != request:
        raise DamagedError("it is of another version")
    found: dict[str, Any] = about
    return found


def _texts(columns: ClipColumns) -> dict[str, Any]:
    return {"id": _text_array(columns.id), **{name: _coded_array(getattr(columns, name)) for name in _TEXTS}}


def _numbers(columns: ClipColumns) -> dict[str, Any]:
    import pyarrow as pa

    values = {name: np.asarray(getattr(columns, name), np.float64) for name in _NUMBERS}
    return {name: pa.array(one, mask=np.isnan(one)) for name, one in values.items()}


def _given(given: Given, number: int) -> Any:
    import pyarrow as pa

    return pa.array(np.ascontiguousarray(given.values[:, number]), mask=~given.where(number), from_pandas=False)


def _audio(audio: AudioColumn) -> dict[str, Any]:
    """Columns of where audio is; those of audio inside of files and in memory only where there is any."""
    import pyarrow as pa

    found = {"audio_location": _coded_array(audio.location)}
    if audio.places is not None:
        found["audio_column"] = _coded_array(audio.places.column)
        found |= {f"audio_{name}": pa.array(getattr(audio.places, name)) for name in _PLACES}
    if audio.held is not None:
        found["audio_bytes"] = pa.array(audio.held, pa.large_binary())
    return found


def _read_audio(reader: _Reader) -> AudioColumn:
    places = held = None
    if "audio_column" in reader.names:
        numbers = {name: reader.numbers(f"audio_{name}") for name in _PLACES}
        places = Places(column=reader.coded("audio_column"), **numbers)
    if "audio_bytes" in reader.names:
        held = reader.column("audio_bytes").to_numpy()
    return AudioColumn(reader.coded("audio_location"), places, held)


def _stamps(audio: AudioColumn, sources: Sources) -> dict[str, Any]:
    """Size and time of each clip's file, as it was before it was probed; -1 where the audio is no file."""
    import pyarrow as pa

    rows = {location: row for row, location in enumerate(sources.recordings)}
    place = np.array([*(rows.get(name, -1) for name in audio.location.names), -1], np.int64)[audio.location.codes]
    values = {"file_size": sources.sizes, "file_time": sources.times}
    return {name: pa.array(np.array([*known, -1], np.int64)[place]) for name, known in values.items()}


def _read_stamps(sources: Sources, location: Coded, sizes: NDArray[np.int64], times: NDArray[np.int64]) -> None:
    codes, first = np.unique(location.codes, return_index=True)
    wanted = (codes >= 0) & (times[first] >= 0)
    sources.recordings = [location.names[code] for code in codes[wanted].tolist()]
    sources.sizes, sources.times = (array("q", known[first[wanted]].tolist()) for known in (sizes, times))


def _unheard(audio: AudioColumn, sources: Sources) -> list[tuple[str, int, int]]:
    """The files of which no clip is, since none of theirs can be used."""
    heard = set(audio.location.present())
    stamps = zip(sources.recordings, sources.sizes, sources.times, strict=True)
    return [stamp for stamp in stamps if stamp[0] not in heard]


def _coded_array(coded: Coded) -> Any:
    import pyarrow as pa

    codes = pa.array(coded.codes, mask=coded.codes < 0)
    return pa.DictionaryArray.from_arrays(codes, _text_array(np.array(coded.names, object)))


def _text_array(texts: NDArray[np.object_]) -> Any:
    """Texts as such; as bytes where one of them is no Unicode, such as the path of a file whose name is not UTF-8."""
    import pyarrow as pa

    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())


def _unescaped(texts: NDArray[np.object_]) -> NDArray[np.object_]:
    if len(texts) and isinstance(texts[0], bytes):
        return np.array([text.decode("utf-8", "surrogatepass") for text in texts], object)
    return texts
