from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from emonet.errors import EmonetError, RequestError
from experiments import cli, listing
from experiments.cli import VERBS, main
from experiments.config import load


def test_no_verb_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert all(verb in err for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().err.startswith("emonet 0.")


def test_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrian"]) == 2
    assert "try:      emonet pretrain" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"emonet {verb}" in out + err


def test_json_is_all_that_stdout_carries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert (len(rows), rows[0]["id"]) == (40, "amusement")


def test_a_table_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "paper-large" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--captioner.epochs", "many"], "invalid literal for int"),
        (["--captioner.epochs", "-1"], "greater than 0"),
        (["--captioner.epoch", "1"], "--captioner.epochs"),
        (["--heads.preset", "huge"], "small"),
        (["--name", "../up"], "name: string should match pattern"),
    ],
)
def test_a_wrong_flag_is_a_wrong_request(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_unknown_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["heads", "--experiment", "nonsense"]) == 2
    assert "there is no experiment called 'nonsense'" in capsys.readouterr().err


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\ncaptioner: {epochs: 4, batch_size: 2}\n")
    parsed = cli._parse("pretrain", cli.StageArguments, ["--experiment", str(path), "--captioner.epochs", "9"])
    assert (parsed.config.seed, parsed.config.captioner.epochs, parsed.config.captioner.batch_size) == (
        3,
        9,
        2,
    )
    assert parsed.config.heads == load(str(path)).heads
    assert cli._parse("pretrain", cli.StageArguments, [f"--experiment={path}"]).config.seed == 3


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (EmonetError("it broke", where="a[b].wav", hint="mend it"), 1, "where:    a[b].wav"),
        (RequestError("no such thing"), 2, "error: no such thing"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (ZeroDivisionError("oh"), 1, "--debug shows where"),
    ],
)
def test_what_a_failure_looks_like(
    error: BaseException,
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(arguments: object) -> None:
        raise error

    monkeypatch.setattr(listing, "targets", fail)
    assert main(["targets"]) == code
    err = capsys.readouterr().err
    assert text in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> None:
        raise RequestError("it broke")

    monkeypatch.setattr(listing, "targets", fail)
    assert main(["targets", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "error: it broke" in err


def test_the_command_is_installed() -> None:
    assert (Path(sys.executable).parent / "emonet").is_file()
