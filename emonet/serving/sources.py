"""Sources of a request's audio: a path, bytes in base64, or a URL; each only as far as the server allows it."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from emonet.errors import AudioError, RequestError
from emonet.serving.fetching import MOST_BYTES, Host, fetch

ALLOW_PATHS = "EMONET_ALLOW_PATHS"
ALLOW_URLS = "EMONET_ALLOW_URLS"
SHORTEST_BASE64 = 257  # characters; a tenth of a second of audio has more, and hardly a path has
_LONGEST_PATH = 4096  # characters, PATH_MAX of Linux


@dataclass(frozen=True)
class SourceRules:
    """What a request may name.

    Args:
        paths: any path; none; or only those within a folder, which relative ones then start from.
        urls: hosts that audio may be fetched from; none by default.
        most_bytes: of a recording that is not a file here.

    Raises:
        RequestError: if the folder does not exist.
    """

    paths: Path | Literal["any", "off"] = "any"
    urls: tuple[Host, ...] = field(default=())
    most_bytes: int = MOST_BYTES

    def __post_init__(self) -> None:
        if isinstance(self.paths, Path) and not self.paths.is_dir():
            raise RequestError(
                "the folder that paths are allowed in does not exist",
                where="allow_paths",
                expected="any, off or a folder",
                found=str(self.paths),
            )

    @classmethod
    def read(cls, settings: Mapping[str, Any], environment: Mapping[str, str]) -> SourceRules:
        """Rules of a model's configuration, over which the environment goes: it is the operator's.

        Args:
            settings: `allow_paths` (`any`, `off` or a folder) and `allow_urls` (hosts, in a list).
            environment: `EMONET_ALLOW_PATHS`, and `EMONET_ALLOW_URLS` with commas between hosts.

        Raises:
            RequestError: if the folder does not exist, or a host is none.
        """
        paths = environment.get(ALLOW_PATHS) or str(settings.get("allow_paths") or "any")
        named: Any = settings.get("allow_urls") or ()
        if ALLOW_URLS in environment:
            named = environment[ALLOW_URLS]
        hosts = named.replace(",", " ").split() if isinstance(named, str) else named
        return cls(
            "any" if paths == "any" else "off" if paths == "off" else Path(paths).resolve(),
            tuple(Host.parse(str(host)) for host in hosts),
        )


def open_source(source: object, rules: SourceRules) -> Path | bytes:
    """What `emonet.audio.decoding` takes, of what a request names.

    A text is, by its look alone: a data URI (`data:audio/wav;base64,...`), an http or https URL, base64 if it is
    longer than 256 characters and holds nothing else, or a path.

    Args:
        source: a text, a path, or encoded audio as bytes.
        rules: what is allowed.

    Raises:
        AudioError: if it is none of these or not allowed, or cannot be fetched; its first line says why.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _small(bytes(source), rules.most_bytes)
    if isinstance(source, Path):
        return _path(source, rules)
    if not isinstance(source, str) or not source.strip():
        nothing = source is None or isinstance(source, str) or (isinstance(source, float) and math.isnan(source))
        found = "nothing" if nothing else type(source).__name__
        raise AudioError(f"no audio: {found}", expected="a path, bytes in base64 or a URL")
    scheme, colon, rest = source.partition(":")
    if colon and scheme.lower() == "data":
        return _of_data_uri(rest, rules.most_bytes)
    if rest.startswith("//"):
        if scheme.lower() not in ("http", "https"):
            raise AudioError(f"URLs of {scheme[:20]}:// are not taken", expected="http or https")
        return fetch(source.strip(), rules.urls, limit=rules.most_bytes)
    if len(source) >= SHORTEST_BASE64:
        try:
            return _of_base64(source, rules.most_bytes)
        except AudioError:
            if len(source) > _LONGEST_PATH or _too_large(source, rules.most_bytes):
                raise
    return _path(Path(source), rules)


def _of_data_uri(rest: str, most: int) -> bytes:
    kind, comma, _ = rest[:200].partition(",")
    if not comma or not kind.lower().endswith(";base64"):
        raise AudioError("a data URI without base64", expected="data:audio/wav;base64,...")
    return _of_base64(rest[len(kind) + 1 :], most)


def _of_base64(text: str, most: int) -> bytes:
    if _too_large(text, most):
        raise AudioError(f"larger than {most / 1e6:g} MB")
    try:
        lines = text.encode("ascii")  # programs break it into lines; `split` would make millions of objects of some
        return _small(base64.b64decode(lines.translate(None, b" \t\r\n"), validate=True), most)
    except (binascii.Error, ValueError) as error:
        raise AudioError(f"not base64: {error}") from error


def _too_large(text: str, most: int) -> bool:
    return len(text) > most * 1.4  # four characters hold three bytes, and lines may be broken


def _small(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise AudioError(f"larger than {most / 1e6:g} MB", found=f"{len(data) / 1e6:.1f} MB")
    return data


def _path(path: Path, rules: SourceRules) -> Path:
    if rules.paths == "any":
        return path
    if rules.paths == "off":
        raise AudioError("paths are not allowed here", expected="bytes in base64")
    folder = rules.paths.resolve()
    try:
        full = (folder / path).resolve()  # links that lead out of the folder are followed, and refused
    except (OSError, RuntimeError, ValueError) as error:
        raise AudioError(f"not a path: {error}") from error
    if not full.is_relative_to(folder):
        raise AudioError("outside of the folder that paths are allowed in", where=path)
    return full
