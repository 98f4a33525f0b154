from __future__ import annotations

from pathlib import Path

from emonet.errors import RequestError, brief


def test_names_that_are_no_text_are_spelled() -> None:
    assert str(RequestError("no \udce4", where=Path("\udce4"), found="\udce4")).count(r"\xe4") == 3


def test_nothing_in_a_message_steers_a_terminal() -> None:
    bad = "a\x1b[31m\rb"
    error = RequestError(f"no {bad}\n- {bad}", where=Path(f"{bad}\n"), expected=bad, found=f"{bad}\ntry: x", hint=bad)
    assert str(error).splitlines() == [
        r"no a\x1b[31m\rb",
        r"- a\x1b[31m\rb",
        r"  where:    a\x1b[31m\rb\n",
        r"  expected: a\x1b[31m\rb",
        r"  found:    a\x1b[31m\rb",
        r"            try: x",
        r"  try:      a\x1b[31m\rb",
    ]
    assert error.what == "no a\\x1b[31m\\rb\n- a\\x1b[31m\\rb"


def test_values_in_messages_are_short() -> None:
    assert brief("dev") == "'dev'"
    assert brief(b"RI") == "b'RI'"
    assert brief({"bytes": bytes(879_000), "path": None}) == "{'bytes': 879,000 bytes, 'path': None}"
    assert brief("x" * 1000) == f"'{'x' * 80}'... (1,000 characters)"
    assert len(brief(list(range(1000)))) < 60


def test_no_message_prints_a_whole_file_but_paths_and_commands_stay() -> None:
    path = "/very" * 200
    text = str(RequestError("w" * 5000 + "\nsecond line", where=path, found="f" * 5000, hint=f"emonet corpus {path}"))
    assert path in text.splitlines()[2]
    assert f"emonet corpus {path}" in text
    assert "second line" in text
    assert text.count("w") < 700
    assert "f" * 601 not in text
    assert text.count("(5,000 characters)") == 2
