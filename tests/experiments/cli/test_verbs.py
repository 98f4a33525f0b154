from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from emonet.errors import EmonetError, RequestError
from emonet.schema import Schema
from experiments import extract, pretrain
from experiments.arguments import BenchmarkArguments, StageArguments
from experiments.arguments import flags as arguments
from experiments.cli import listing, main
from experiments.cli import verbs as cli
from experiments.cli.verbs import VERBS
from experiments.core import Experiment, load


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


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["verify", "x.zarr"], "emonet store verify"),
        (["verfy"], "emonet store verify"),
        (["stoer", "info"], "emonet store"),
        (["store", "verfy", "x.zarr"], "emonet store verify"),
        (["store", "pretrain"], "emonet --help"),
        (["qqq"], "emonet --help"),
    ],
)
def test_verbs_of_two_words_are_found_by_either(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert f"try:      {hint}\n" in err
    assert "Traceback" not in err


def test_an_unknown_second_word_lists_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "mend"]) == 2
    err = capsys.readouterr().err
    assert "there is no verb 'store mend'" in err
    assert "expected: store info, store verify" in err
    assert "pretrain" not in err


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0), (["--json"], 2)])
def test_the_first_word_alone_lists_its_verbs(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert all(name in err for name in VERBS if name.startswith("store "))
    assert "pretrain" not in err
    assert "emonet store VERB --help" in err


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
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
    parsed = cli._parse("pretrain", ["--experiment", str(path), "--captioner.epochs", "9"])
    assert (parsed.config.seed, parsed.config.captioner.epochs, parsed.config.captioner.batch_size) == (
        3,
        9,
        2,
    )
    assert parsed.config.heads == load(str(path)).heads
    assert cli._parse("pretrain", [f"--experiment={path}"]).config.seed == 3
    assert cli._parse("pretrain", ["--experiment", "ravdess", "--experiment", str(path)]).config.seed == 3, "the last"


@pytest.mark.parametrize(
    ("verb", "short", "full"),
    [
        ("extract", ["--batch-size", "8", "--max-failed=0.5"], {"batch_size": 8, "max_failed": 0.5}),
        ("extract", ["--num-shards", "4", "--shard-index", "1"], {"num_shards": 4, "shard_index": 1}),
        ("extract", ["--workers=4", "--precision", "bf16", "--compile"], {"workers": 4, "precision": "bf16", "compile": True}),
        ("extract", ["--shard_clips", "3", "--decode_timeout=2.5"], {"shard_clips": 3, "decode_timeout": 2.5}),
        ("extract", ["--devices", "cuda:0", "cuda:1"], {"devices": ("cuda:0", "cuda:1")}),
        ("extract", ["--captioner", "openai/whisper-small"], {"captioner": "openai/whisper-small"}),
        ("extract", ["--captioner=runs/a.b/captioner"], {"captioner": "runs/a.b/captioner"}),
        ("pretrain", ["--epochs", "9", "--model", "scratch:tiny"], {"epochs": 9, "model": "scratch:tiny"}),
        ("heads", ["--preset", "large", "--no-standardise"], {"preset": "large", "standardise": False}),
        ("heads", ["--inputs", "statistics", "attention"], {"inputs": ("statistics", "attention")}),
    ],
)  # fmt: skip
def test_fields_of_a_stages_own_section_need_no_prefix(verb: str, short: list[str], full: dict[str, object]) -> None:
    section = VERBS[verb].section
    found = getattr(cli._parse(verb, short).config, section)
    assert {name: getattr(found, name) for name in full} == full
    prefixed = [argument.replace("--", f"--{section}.", 1) for argument in short]
    assert cli._parse(verb, prefixed).config == cli._parse(verb, short).config


@pytest.mark.parametrize(
    ("flags", "standardise"),
    [
        ([], True),
        (["--no-standardise"], False),
        (["--heads.no-standardise"], False),
        (["--standardise"], True),
        (["--standardise", "--seed", "3"], True),
        (["--standardise", "False"], False),
        (["--heads.standardise", "True"], True),
        (["--standardise=speaker"], "speaker"),
        (["--standardise", "speaker"], "speaker"),
        (["--experiment", "paper-small"], False),
        (["--experiment", "paper-small", "--standardise"], True),
    ],
)
def test_standardise_is_a_switch_and_has_values(flags: list[str], standardise: object, tmp_path: Path) -> None:
    assert cli._parse("heads", flags).config.heads.standardise is standardise
    path = tmp_path / "mine.yaml"
    path.write_text(f"heads: {{standardise: {str(standardise).lower()}}}\n")
    assert load(str(path)).heads.standardise == standardise


def test_heads_alone_have_folds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._parse("heads", ["--folds", "loso", "--epochs", "3"]).folds == "loso"
    assert cli._parse("heads", []).folds is None
    assert main(["extract", "--folds", "3"]) == 2
    assert "folds" in capsys.readouterr().err
    assert main(["heads", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "nothing is saved or registered but figures and predictions" in said


@pytest.mark.parametrize(("given", "rank"), [("100", 100), ("1", 1), ("0.95", 0.95), ("0.001", 0.001), ("all", "all")])
def test_ranks_are_counts_shares_or_all(given: str, rank: object, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"heads: {{rank: {given}}}\n")
    for found in (cli._parse("heads", ["--rank", given]).config.heads.rank, load(str(path)).heads.rank):
        assert (found, type(found)) == (rank, type(rank))


@pytest.mark.parametrize("given", ["1.0", "0", "0.0", "2.5", "-3", "most"])
def test_what_is_neither_count_nor_share_is_no_rank(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1.0 as a share would be all, and as a count one coordinate: it is neither."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"heads: {{rank: {given}}}\n")
    assert main(["heads", "--rank", given]) == 2
    assert "rank" in capsys.readouterr().err
    with pytest.raises(RequestError, match="rank"):
        load(str(path))


def test_nested_fields_of_the_own_section_need_no_prefix() -> None:
    config = cli._parse("pretrain", ["--augment.noise-probability", "0.5", "--augment.gain_db=3"]).config
    assert (config.captioner.augment.noise_probability, config.captioner.augment.gain_db) == (0.5, 3)


def test_names_of_the_experiment_keep_their_meaning() -> None:
    flags = ["--seed", "3", "--force", "--json", "--runs=r", "--captioner.epochs", "2", "--heads.batch-size", "5"]
    parsed = cli._parse("extract", [*flags, "--batch-size", "7"])
    config = parsed.config
    assert (config.seed, config.force, parsed.json_output, config.runs) == (3, True, True, Path("r"))
    assert (config.captioner.epochs, config.heads.batch_size, config.extraction.batch_size) == (2, 5, 7)


@pytest.mark.parametrize("section", sorted({verb.section for verb in VERBS.values()} - {""}))
def test_no_field_that_needs_no_prefix_is_called_like_a_flag_of_every_stage(section: str) -> None:
    top = Experiment.model_fields
    own = getattr(top[section].annotation, "model_fields", {})
    sections = {name for name, field in top.items() if isinstance(field.default, Schema)}
    flags = {*top, *StageArguments.model_fields, "json", "help"} - sections
    assert own
    assert not flags & set(own)


@pytest.mark.parametrize(
    ("flags", "code"),
    [(["--help"], 0), (["--experiment"], 2), (["--epochs", "many"], 2), (["--seed", "-1"], 2), (["--seed", "1"], 0)],
)
def test_flags_are_read_once(flags: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    read = arguments.tyro.cli

    def counted(model: object, **options: Any) -> Any:
        calls.append(options["args"])
        return read(model, **options)

    monkeypatch.setattr(arguments.tyro, "cli", counted)
    monkeypatch.setattr(pretrain, "run", lambda config: [])
    assert main(["pretrain", *flags, "--json"]) == code
    assert len(calls) == 1


def test_a_terminal_gets_colours_in_errors_and_help() -> None:
    for flags in (["--help"], ["--nonsense"]):
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", "experiments.cli", "targets", *flags]
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}):
            os.close(theirs)
            shown = b""
            with suppress(OSError):  # the other end is closed
                while part := os.read(ours, 4096):
                    shown += part
        os.close(ours)
        assert b"\x1b[" in shown
        assert "╭".encode() in shown


def test_a_short_flag_of_another_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "--epochs", "3"]) == 2
    assert "--epochs" in capsys.readouterr().err
    assert main(["extract", "--batch-size", "none"]) == 2
    assert "--extraction.batch-size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "flag"),
    [("pretrain", "batch-size 8"), ("extract", "batch-size 8"), ("heads", "batch-size 8"), ("sweep", "trials 8")],
)
def test_help_says_so(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"--{flag} means --{VERBS[verb].section}.{flag}" in shown


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("plan", "emonet plan EXPERIMENT means"),
        ("store copy", "emonet store copy [-h] FROM TO"),
        ("store copy", "--no-check Do not read"),
        ("experts import", "FOLDER OUT"),
        ("experts export", "MODEL OUT"),
        ("store export", "STORE OUT"),
    ],
)
def test_help_names_what_stands_alone(verb: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    assert told in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (EmonetError("it broke", where="a[b].wav", hint="mend it"), 1, "where:    a[b].wav"),
        (RequestError("no such thing"), 2, "error: no such thing"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT; the same command starts again"),
        (SystemExit("a library gave up"), 1, "a library gave up"),
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_verb_with_one_line(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(arguments: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(extract, "run", work)
    before = signal.getsignal(number)
    assert main(["extract"]) == 128 + number
    said = f"stopped by {number.name}; whole shards are kept, and the same command goes on from there\n"
    assert capsys.readouterr().err == said
    assert signal.getsignal(number) is before


def test_what_python_is_started_takes_no_modules_of_the_working_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('my own queue')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.SAFE_PATH, raising=False)
    code = "import queue; print(queue.__file__)"

    def work(arguments: object) -> list[str]:
        return [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout]

    monkeypatch.setattr(listing, "targets", work)
    assert main(["targets", "--json"]) == 0
    assert "queue.py" in capsys.readouterr().out
    assert cli.SAFE_PATH not in os.environ


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["extract", "--batch-size", "0"],
            "--extraction.batch-size: input should be greater than 0, or input should be 'auto'; found 0",
        ),
        (
            ["pretrain", "--augment.noise-probability", "2"],
            "--captioner.augment.noise-probability: input should be less",
        ),
        (["heads", "--seed", "-1"], "--seed: input should be greater than or equal to 0; found -1"),
        (["predict", "a.wav", "--top", "0"], "--top: input should be greater than or equal to 1; found 0"),
    ],
)
def test_a_value_out_of_range_is_told_like_any_other_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: a flag has a value that cannot be used\n    - " + message)
    assert f"try:      emonet {arguments[0]} --help" in err


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--only", "a", "b"],
        ["plan", "--only", "a", "--only", "b"],
        ["plan", "--only=a", "--force", "--only=b"],
        ["--only", "a", "--runs", "r", "--only", "b", "--force"],
    ],
)
def test_of_a_flag_that_is_given_twice_all_values_count(words: list[str]) -> None:
    assert arguments.parse(BenchmarkArguments, "emonet", words).only == ("a", "b")


def test_a_nested_flag_may_be_given_twice() -> None:
    found = arguments.parse(Experiment, "emonet", ["--heads.layers", "1", "--seed", "3", "--heads.layers", "2", "3"])
    assert (found.heads.layers, found.seed) == ((1, 2, 3), 3)
