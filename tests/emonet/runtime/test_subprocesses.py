from __future__ import annotations

import pytest

from emonet.errors import AudioError, EmonetError, RequestError
from emonet.runtime.subprocesses import packed, unpacked


class NarrowerError(RequestError):
    """A kind of its own that other processes do not know."""


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (EmonetError, EmonetError),
        (RequestError, RequestError),
        (AudioError, AudioError),
        (NarrowerError, RequestError),
    ],
)
def test_an_error_of_another_process_has_its_exit_code(kind: type[EmonetError], told: type[EmonetError]) -> None:
    error = kind("it failed", where="here", hint="try again")
    found = unpacked(packed(error))
    assert type(found) is told
    assert (str(found), found.what, found.hint) == (str(error), "it failed", "try again")
    assert found.exit_code == error.exit_code
