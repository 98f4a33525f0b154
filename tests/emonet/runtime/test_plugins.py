from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest

from emonet.corpora import open_corpus
from emonet.errors import EmonetError, RequestError
from emonet.runtime import installed_plugins, name_and_argument, pick_plugin, require_plugin
from emonet.targets import ATTRIBUTES
from tests.installed import install

ROOT = Path(__file__).parents[3]
OPENER = """
from emonet import Clip, Corpus
def opened(path, *, targets, progress):
    return Corpus("whatever", (Clip("a", path, "s", "train"),), targets=targets)
"""
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Install a corpus plug-in whose object is `opened`, unless another one is named."""

    def put(
        module: str, code: str = OPENER, name: str = "toy", target: str = "opened", group: str = "emonet.corpora"
    ) -> None:
        monkeypatch.syspath_prepend(install(tmp_path / module, module, code, {group: {name: target}}))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def test_a_plug_in_opens_a_corpus_whose_name_opens_it_again(put: Put, tmp_path: Path) -> None:
    put("toy_opens")
    (tmp_path / "a+b").touch()
    corpus = open_corpus(f"toy:{tmp_path}/a+b")
    assert corpus.name == f"toy:{tmp_path}/a+b"
    assert corpus.clips[0].audio == tmp_path / "a+b"
    assert open_corpus(corpus.name, targets=ATTRIBUTES).targets == ATTRIBUTES


def test_what_can_be_typed_lists_plug_ins(put: Put) -> None:
    put("toy_listed")
    with pytest.raises(
        RequestError,
        match=r"(?s)nemo:PATH, manifest:FILE, tars:FILE, toy:PATH \(toy-listed 0\.1\), or.*did you mean toy\?",
    ):
        open_corpus("tyo:x")
    with pytest.raises(RequestError, match=r"(?s)the corpus 'toy' needs a path.*toy:PATH"):
        open_corpus("toy")


BROKEN = {
    "import": ("import nothing_of_this_name", r"cannot be imported.*ModuleNotFoundError.*pip uninstall toy-import"),
    "exit": ("import sys; sys.exit('no licence')", r"cannot be imported.*SystemExit: no licence"),
    "absent": ("", r"cannot be imported.*AttributeError.*'opened'"),
    "syntax": ("def", r"cannot be imported.*SyntaxError"),
    "number": ("opened = 3", r"cannot be called.*a function or class that takes \(argument, targets=\.\.\., progress=\.\.\.\)"),
    "signature": ("def opened(path): ...", r"does not take what it is called with.*found: +\(path\)"),
    "nothing": ("def opened(path, *, targets, progress): ...", r"opens no corpus.*emonet\.Corpus.*NoneType"),
    "other": (OPENER.replace("targets=targets", ""), r"corpus of other targets"),
    "fails": ("def opened(path, **rest): return path.iterdir().__next__()", r"failed.*FileNotFoundError.*--debug"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plug_in_is_named_with_its_version(put: Put, name: str) -> None:
    code, message = BROKEN[name]
    put(f"toy_{name}", code)
    with pytest.raises(RequestError, match=rf"(?s)the corpus plug-in 'toy' \(toy-{name} 0\.1\) .*{message}"):
        open_corpus("toy:nowhere", targets=ATTRIBUTES)


def test_errors_of_a_plug_ins_own_are_shown_as_they_are(put: Put) -> None:
    put("toy_own", "from emonet import RequestError\ndef opened(path, **rest): raise RequestError('no birds here')")
    with pytest.raises(RequestError, match=r"\Ano birds here\Z"):
        open_corpus("toy:nowhere")


def test_one_name_of_two_packages_is_refused(put: Put) -> None:
    put("toy_one")
    put("toy_two")
    with pytest.raises(
        RequestError, match=r"(?s)several packages register the corpus 'toy'.*toy-\w+ 0\.1, toy-\w+ 0\.1"
    ):
        open_corpus("toy:x")


@pytest.mark.parametrize("kind", ["ravdess", "sandbox"])
def test_no_package_takes_the_place_of_a_corpus_of_ours(put: Put, kind: str) -> None:
    put("toy_shadow", name=kind)
    message = rf"(?s)the corpus '{kind}' is emonet's own.*toy-shadow 0\.1.*pip uninstall toy-shadow"
    with pytest.raises(RequestError, match=message):
        open_corpus("ravdess:x" if kind == "ravdess" else kind)
    with pytest.raises(RequestError, match="does not exist"):  # others are not concerned
        open_corpus("emodb:nowhere")


def test_only_the_package_that_is_named_is_imported(put: Put) -> None:
    put("toy_loud", "raise AssertionError", name="loud")
    put("toy_meek", name="meek")
    assert len(open_corpus("meek:x").clips) == 1
    assert "toy_loud" not in sys.modules


@pytest.mark.parametrize("words", [["--help"], ["corpus", "--help"], ["targets"]])
def test_the_command_line_imports_no_plug_in(words: list[str], tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'imported')!r}, 'w')"
    points = {f"emonet.{group}": {"toy": "opened"} for group in ("corpora", "encoders", "scorers")}
    folder = install(tmp_path, "toy_noted", code, points)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "experiments.cli", *words]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert not (tmp_path / "imported").exists()


def test_a_name_that_nobody_registers() -> None:
    assert pick_plugin("toy", "emonet.scorers") is None
    assert installed_plugins("emonet.scorers") == {}
    message = r"(?s)no installed package registers the scorer 'toy'.*group emonet\.scorers.*no plug-in of this kind"
    with pytest.raises(RequestError, match=message):
        require_plugin("toy", "emonet.scorers")


def test_names_have_arguments() -> None:
    assert name_and_argument("toy") == ("toy", "")
    assert name_and_argument("toy:C:/weights: 1 ") == ("toy", "C:/weights: 1 ")


@runtime_checkable
class Both(Protocol):
    @property
    def size(self) -> int: ...
    def run(self) -> None: ...


@pytest.mark.parametrize(
    ("made", "lacking"),
    [
        ({}, "size, run"),
        ({"size": 0, "run": 3}, "run"),
        ({"run": print}, "size"),
        ({"size": property(lambda self: 1 / 0), "run": print}, None),
    ],
)
def test_what_a_protocol_lacks_is_named(put: Put, made: dict[str, Any], lacking: str | None) -> None:
    put("toy_both", group="emonet.encoders")
    plugin = require_plugin("toy", "emonet.encoders")
    message = f"is no Both.*size, run.*Made without {lacking}$" if lacking else "failed.*ZeroDivisionError"
    with pytest.raises(RequestError, match=rf"(?ms)encoder plug-in 'toy'.*{message}"):
        plugin.check(type("Made", (), made)(), Both)


def test_what_fails_while_it_works_is_no_wrong_request(put: Put) -> None:
    put("toy_fails", group="emonet.encoders")
    plugin = require_plugin("toy", "emonet.encoders")
    with (
        pytest.raises(EmonetError, match=r"(?s)'toy' \(toy-fails 0\.1\) failed.*KeyError: 'x'") as caught,
        plugin.guarded(),
    ):
        raise KeyError("x")
    assert caught.value.exit_code == 1
