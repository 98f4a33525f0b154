"""Objects of the Hugging Face hub, read by ranges: `hf://datasets/USER/NAME/PATH`, `hf://datasets/USER/NAME@REVISION/...`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from emonet.errors import EmonetError, RequestError
from emonet.objects.read_only import ReadOnlyObjects

_LOGIN = "hf auth login, or export HF_TOKEN=...; is the name right?"
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")  # that versions of the hub's library use


@final
class HubObjects(ReadOnlyObjects):
    """A folder of a data set or model of the hub; the endpoint and token are those that `hf auth login` or HF_* set."""

    def read(self, key: str) -> bytes:
        """A whole object."""
        with self._asking(key) as hub:
            content: bytes = hub.cat_file(self._address(key))
            return content

    def read_range(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start` on."""
        with self._asking(key) as hub, hub.open(self._address(key), "rb", cache_type="none") as file:
            file.seek(start)
            found: bytes = file.read(max(0, min(size, file.size - start)))
            return found

    def stamp(self, key: str) -> tuple[int, str] | None:
        """Bytes of an object, and the hash that git knows it by; None where there is none."""
        try:
            with self._asking(key) as hub:
                found = hub.info(self._address(key))
        except FileNotFoundError:
            return None
        return (int(found["size"]), found.get("blob_id") or "") if found["type"] == "file" else None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes (bytes) of all objects; none where there is no such folder, as in a bucket."""
        folder = self._address(prefix)
        with self._asking(prefix) as hub:
            found = hub.find(folder, detail=True)
        # The hub's own names may carry a revision that the address has spelled otherwise.
        skipped = len(hub.resolve_path(folder).unresolve()) + 1
        before = f"{prefix}/" if prefix else ""
        yield from ((before + name[skipped:], int(about["size"])) for name, about in found.items())

    @contextmanager
    def _asking(self, key: str) -> Iterator[Any]:
        """The hub's file system; its errors in our words."""
        from huggingface_hub import HfFileSystem

        try:
            yield HfFileSystem()  # one for each thread and process: it keeps them
        except Exception as error:
            raise _explained(error, self._address(key)) from error


def _explained(error: Exception, where: str) -> Exception:
    """The error to raise for one of the hub's client."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    for cause in (error, error.__cause__):
        if isinstance(cause, RepositoryNotFoundError | RevisionNotFoundError):
            return _unknown(cause, where)
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
    if status == 404 or isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"there is no object {where}")
    if status in (401, 403):
        return RequestError("the hub does not give this", where=where, found=status, hint=_LOGIN)
    if isinstance(error, HFValidationError | NotImplementedError | ValueError):
        expected = "hf://datasets/USER/NAME/PATH"
        return RequestError("this is no address on the hub", where=where, expected=expected, found=error)
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS:
        return EmonetError("the hub does not answer", where=where, found=error, hint="try again: what is there stays")
    return error  # a fault of ours


def _unknown(error: Exception, where: str) -> RequestError:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        return RequestError("the data set or model has no such revision", where=where)
    what = "there is no such data set or model on the hub, or it is private"
    if isinstance(error, GatedRepoError):
        what = "the hub gives this only to those whom its owner has admitted"
    return RequestError(what, where=where, hint=_LOGIN)
