from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.names import as_text, on_one_line
from emonet.schema import Schema, digest


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"a.wav", "a.wav"),
        ("Zo\u00eb [red] 1.wav".encode(), "Zo\u00eb [red] 1.wav"),
        (b"\xe4rger.wav", r"\xe4rger.wav"),
        ("Zo\u00eb".encode() + b"\xff", "Zo\u00eb\\xff"),
        (b"two\nlines", "two\nlines"),
    ],
)
def test_bytes_that_are_no_text_are_spelled(name: bytes, text: str) -> None:
    assert as_text(Path(os.fsdecode(name))) == as_text(os.fsdecode(name)) == text


@given(st.text(st.characters(), max_size=20) | st.binary(max_size=20).map(os.fsdecode))
def test_any_name_can_be_written(name: str) -> None:
    text = as_text(name)
    assert json.loads(json.dumps(text).encode()) == text.encode().decode()
    if text == name:
        assert as_text(text) == text
    assert on_one_line(name).isprintable()


def test_what_steers_a_terminal_is_spelled() -> None:
    assert on_one_line("a\n\x1b[31mb\r\u202e.wav") == r"a\n\x1b[31mb\r\u202e.wav"


class Result(Schema):
    """A result."""

    folder: Path
    """A folder."""
    counts: dict[str, int]
    """Counts."""


def test_no_result_is_lost_to_a_name() -> None:
    odd = os.fsdecode(b"n\xe4me")
    result = Result(folder=Path(odd), counts={odd: 1})
    assert json.loads(result.model_dump_json(indent=2)) == {"folder": r"n\xe4me", "counts": {r"n\xe4me": 1}}
    assert Result(folder=Path("a"), counts={}).model_dump_json() == '{"folder":"a","counts":{}}'
    assert digest(["ä"]) == digest(["ä"]) != digest([odd])
