from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check, peers
from benchmarks.gpu_check import PARTS, in_a_process, main, work_on
from benchmarks.gpu_device import run_tests
from benchmarks.gpu_limits import Limits, timed
from benchmarks.gpu_setting import SMALL, Setting, synthetic_corpus
from benchmarks.rows import Row
from emonet.errors import EmonetError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALLEST = ["--device", "cpu", "--small"]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(CPU, SMALL, tmp_path)


def a_test(folder: Path, body: str) -> str:
    file = folder / "test_made_up.py"
    file.write_text(f"import pytest\n\n@pytest.mark.gpu\ndef test_one():\n    {body}\n")
    return str(file)


@pytest.mark.slow
def test_limits_experts_and_their_forward_pass(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other parts are in the whole check below, which is slow."""
    monkeypatch.setattr(peers, "BURST", 0.01)
    monkeypatch.setattr(peers, "SQUARES", (64,))
    assert [row.unit for row in PARTS["limits"].run(setting)] == ["TFLOP/s"] * 3 + ["GB/s"]
    rows = PARTS["experts in a bank"].run(setting) + PARTS["forward"].run(setting)
    assert_compared(rows)
    assert {row.name for row in rows} == {
        *(f"3 experts, at once, a step of 4 clips, {name}" for name in ("float32", "mixed", "bf16")),
        *(f"forward, {clips} clips, 3 experts in {name}" for clips in (1, 32) for name in ("float32", "bf16", "int8")),
    }


def assert_compared(rows: list[Row]) -> None:
    compared = [row for row in rows if row.peer]
    assert {row.peer.split()[-2] for row in compared} == {"matmul", "memory"}
    assert all(row.ratio is not None and 0 < row.ratio < 2 for row in compared)


def test_limits_say_which_one_is_the_narrower() -> None:
    limits = Limits({"bf16": 1e12}, memory=1e9)
    (alone,) = limits.against("a", 0.004, flops=2e9, arithmetic="bf16")
    assert (alone.figure, alone.ratio, alone.peer) == (4.0, pytest.approx(0.5), "bf16 matmul rate")
    first, second = limits.against("a", 0.004, flops=2e9, arithmetic="bf16", moved=3e6)
    assert first == alone
    assert (second.ratio, second.peer) == (pytest.approx(0.75), "memory rate")
    assert len(limits.against("a", 0.004, flops=2e9, arithmetic="bf16", moved=1e6)) == 1
    (unknown,) = Limits({}, 0.0).against("a", 0.004, flops=2e9, arithmetic="bf16", moved=1e6)
    assert (unknown.figure, unknown.ratio, unknown.peer) == (4.0, None, "")


def test_calls_are_timed_after_a_warm_up() -> None:
    calls: list[float] = []
    seconds = timed(lambda: calls.append(0.0) or time.sleep(0.01), CPU, repeats=3, warmup=2)
    assert len(calls) == 5
    assert 0.01 <= seconds < 1


def test_the_synthetic_corpus_has_speech_for_training_and_validation(tmp_path: Path) -> None:
    corpus = synthetic_corpus(tmp_path / "audio")
    assert len(corpus.of_split("train")) == 14
    assert len(corpus.of_split("validation")) == 2
    assert {clip.audio for clip in corpus.clips} == set((tmp_path / "audio").iterdir())
    assert synthetic_corpus(tmp_path / "audio").fingerprint == corpus.fingerprint


def test_a_gpu_test_that_fails_is_named(setting: Setting) -> None:
    setting = Setting(CPU, SMALL, setting.folder, tests=(a_test(setting.folder, "assert False"),))
    with pytest.raises(EmonetError, match=r"(?s)1 of 1 gpu tests failed.*test_one"):
        run_tests(setting)


@pytest.mark.slow
def test_gpu_tests_that_pass_and_skip_are_counted(setting: Setting) -> None:
    setting = Setting(CPU, SMALL, setting.folder, tests=(a_test(setting.folder, "pytest.skip('none')"),))
    assert {row.name: row.figure for row in run_tests(setting)} == {"gpu tests passed": 0, "gpu tests skipped": 1}
    on_gpu = Setting(torch.device("cuda"), SMALL, setting.folder, tests=setting.tests)
    with pytest.raises(EmonetError, match=r"(?s)not one gpu test ran.*1 skipped"):
        run_tests(on_gpu)


@pytest.mark.slow
def test_a_test_that_does_not_start_fails_the_part(setting: Setting) -> None:
    with pytest.raises(EmonetError, match=r"(?s)ended with code 4.*nowhere.py"):
        run_tests(Setting(CPU, SMALL, setting.folder, tests=(str(setting.folder / "nowhere.py"),)))


def test_why_a_part_failed_is_left_for_the_parent(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    work_on("experts out of the store", setting)  # no extraction before
    left = json.loads((setting.folder / "experts out of the store.json").read_text())
    assert left["rows"] == []
    assert left["failed"].startswith("there are no states to train on")
    monkeypatch.setitem(gpu_check.PARTS, "forward", gpu_check.Part("benchmarks.nowhere:run", 1))
    work_on("forward", setting)
    assert json.loads((setting.folder / "forward.json").read_text())["failed"].startswith("ModuleNotFoundError: ")


def test_a_part_ends_when_its_time_is_over(tmp_path: Path) -> None:
    started = time.monotonic()
    assert in_a_process("limits", SMALLEST, tmp_path, 0.2)["failed"] == "it did not end within 0 s"
    assert time.monotonic() - started < 5
    assert in_a_process("limits", SMALLEST, tmp_path, -1.0)["failed"] == "no time was left for it"


def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    failed = in_a_process("limits", ["--unknown"], tmp_path, 60)["failed"]
    assert "ended with code 2" in failed
    assert "--unknown" in failed


@pytest.mark.slow
def test_a_part_that_fails_is_told_and_the_others_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out, test = tmp_path / "gpu.json", a_test(tmp_path, "assert False")
    code = main([*SMALLEST, "--parts", "tests", "forward", "--tests", test, "--out", str(out)])
    assert code == 1
    content = json.loads(out.read_text())
    assert "test_one" in content["about"]["parts"]["tests"]["failed"]
    assert content["about"]["parts"]["forward"]["failed"] == ""
    assert all(row["name"].startswith("forward, ") for row in content["rows"])
    assert content["rows"]
    assert "failed: tests: 1 of 1 gpu tests failed" in capfd.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.slow
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("there is no such device here: cuda; ")
    assert "--device cpu --small" in line
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.slow
def test_the_whole_check_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "gpu.json"
    assert main([*SMALLEST, "--tests", "tests/emonet/experts/test_dropout.py", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert list(content["about"]["parts"]) == list(PARTS)
    rows = [Row(**row) for row in content["rows"]]
    assert_compared(rows)
    named = " ".join(row.name for row in rows)
    for words in ("extraction, base", "extraction, small", "out of the store", "mixed", "int8", "captioner"):
        assert words in named
