from __future__ import annotations

import json
from pathlib import Path

import pytest

from emonet.configs import ExtractionConfig
from emonet.encoders import open_encoder
from emonet.errors import RequestError
from emonet.windows import Window
from experiments.arguments import PlanArguments
from experiments.cli.verbs import main
from experiments.core import Experiment, load
from experiments.plan import verb
from experiments.plan.page import bars
from experiments.plan.rates import cards, rented
from experiments.plan.workload import shape_of
from experiments.plan.workload import workload_of as workload

PAPER = load("paper-small")


def planned(tmp_path: Path, gpus: str = "8xh100", clips: int | None = 2_000_000, **changes: object) -> verb.PlanResult:
    config = Experiment.model_validate({**PAPER.model_dump(), "runs": tmp_path, **changes})
    return verb.run(PlanArguments(config=config, clips=clips, gpus=gpus))


def test_two_million_clips_on_eight_gpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = planned(tmp_path)
    assert [stage.stage for stage in result.stages] == ["pretrain", "extract", "heads", "sweep"]
    pretrain, extract, heads, sweep = result.stages
    assert extract.disk_gb == pytest.approx(2e6 * 2.304e6 * 0.75 / 1e9), "a clip's states, lossless"
    assert extract.bottleneck in {"disk", "compress"}
    assert heads.bottleneck == "read"
    assert "40 experts in 8 groups of up to 5, 8 at a time, float32, each epoch reads the store once" in heads.notes[0]
    assert result.hours == pytest.approx(pretrain.hours + extract.hours + heads.hours)
    assert result.usd == pytest.approx(result.hours * 8 * cards()["h100"].usd)
    assert sweep.hours > heads.hours
    said = "\n".join(result.assumptions)
    for assumed in (
        "train.parquet was not opened: ",
        "a clip is 10 s long",
        "80% are for training",
        "40 targets",
        "H200",
    ):
        assert assumed in said
    verb.show(result)
    shown = capsys.readouterr().err
    assert "3.5 TB" in shown
    assert "taken for granted" in shown
    page = result.page.read_text("utf-8")
    assert page.count("<rect") == sum(len(stage.parts) for stage in result.stages[:3])
    assert page.count('class="waits"') == 3
    assert "a clip is 10 s long" in page


def test_prices_that_nobody_looked_up_are_told(tmp_path: Path) -> None:
    guessed = {name for name in cards() if "not looked up" in " ".join(planned(tmp_path, name).assumptions)}
    assert guessed == {"rtx3060", "a10", "a100-40"}
    assert "not looked up" not in " ".join(rented("a10", 2.0).notes)


def test_twice_the_clips_take_twice_as_long_and_twice_the_gpus_half(tmp_path: Path) -> None:
    once, twice = (planned(tmp_path, "1xl4", clips).stages for clips in (1_000_000, 2_000_000))
    for one, two in zip(once, twice, strict=True):
        assert two.hours == pytest.approx(2 * one.hours, rel=0.01)
    many = planned(tmp_path, "4xl4", 1_000_000).stages
    assert many[1].hours == pytest.approx(once[1].hours / 4, rel=0.02)
    assert many[0].hours == pytest.approx(once[0].hours / 4 / 0.9, rel=0.02)


def test_the_table_gives_what_was_measured_on_an_h200(tmp_path: Path) -> None:
    pretrain, extract, *_ = planned(tmp_path, "h200", captioner={"model": "openai/whisper-small"}).stages
    assert extract.clips_per_second == pytest.approx(208, rel=0.1)
    assert pretrain.clips_per_second == pytest.approx(168, rel=0.25)  # validation included


def test_forty_experts_on_one_card_of_24_gb(tmp_path: Path) -> None:
    for card, precision, groups in (("rtx4090", "float32", 2), ("a10", "mixed", 2), ("l4", "bf16", 1)):
        heads = {**PAPER.heads.model_dump(), "precision": precision}
        stage = planned(tmp_path, card, heads=heads).stages[2]
        assert stage.device_gb < 0.9 * 24
        count = 1 if "40 experts at once" in stage.notes[0] else int(stage.notes[0].split(" in ")[1].split()[0])
        assert count == groups, stage.notes


def test_shapes_count_as_the_encoder_itself_does(whisper30: Path) -> None:
    encoder = open_encoder(str(whisper30), device="cpu")
    shape = shape_of(str(whisper30))
    assert shape.encoder_flops(encoder.window) == pytest.approx(encoder.flops_per_clip)
    assert shape_of("openai/whisper-small").encoder_flops(Window()) == pytest.approx(3.44e11, rel=0.01)
    assert shape_of("openai/whisper-large-v3").parameters == pytest.approx(1.54e9, rel=0.05)
    assert shape_of("openai/whisper-small").parameters == pytest.approx(242e6, rel=0.05)


def test_a_corpus_that_is_there_says_more(mini_experiment: Experiment) -> None:
    work = workload(mini_experiment, None, None)
    assert (work.clips, work.targets) == (36, 3)
    assert work.seconds == pytest.approx(0.45, abs=0.05)
    assert work.captioner is None
    more = workload(mini_experiment, 3600, 2.0)
    assert (more.clips, more.train, more.seconds) == (3600, 100 * work.train, 2.0)
    of_classes = {**PAPER.model_dump(), "targets": "classes", "runs": mini_experiment.runs}
    unknown = workload(Experiment.model_validate(of_classes), 100, None)
    assert unknown.targets == 7
    assert "the corpus has 7 classes, each of which gets an expert" in unknown.notes


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("8xh1000", "(?s)no such GPU.*found: *8xh1000.*--gpus 8xh100;"),
        ("0xl4", "needs a GPU at least"),
        ("h100x8", "(?s)no such GPU.*--gpus 8xh100;"),
        ("x", "no such GPU"),
    ],
)
def test_cards_that_are_not_there_are_refused(gpus: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        rented(gpus, None)


def test_what_cannot_be_planned_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match=r"(?s)needs the corpus, or a number of clips.*--clips NUMBER"):
        planned(tmp_path, clips=None)
    with pytest.raises(RequestError, match="no training or no validation clip"):
        planned(tmp_path, clips=2)
    with pytest.raises(RequestError, match="no such captioner"):
        planned(tmp_path, extraction=ExtractionConfig(captioner=str(tmp_path / "nowhere")).model_dump())
    with pytest.raises(RequestError, match=r"(?s)what a plug-in's encoder costs.*--extraction.encoder captioner"):
        planned(tmp_path, extraction=ExtractionConfig(encoder="theirs:large").model_dump())
    flags = ["--gpus", "l4", "--runs", str(tmp_path)]
    assert main(["plan", "paper-small", "--clips", "0", *flags]) == 2
    assert main(["plan", "no-such-experiment", "--clips", "10", *flags]) == 2
    assert "there is no experiment called" in capsys.readouterr().err
    tight = tmp_path / "file"
    tight.write_text("")
    assert main(["plan", "paper-small", "--clips", "100", "--gpus", "l4", "--runs", str(tight)]) == 2
    assert "the folder for the plan cannot be written" in capsys.readouterr().err


def test_the_command_line_prints_json_and_takes_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--clips",
        "1000",
        "--gpus",
        "2xa100-80",
        "--usd",
        "2",
        "--heads.epochs",
        "3",
        "--runs",
        str(tmp_path),
        "--json",
    ]
    assert main(["plan", "paper-small", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["usd"] == pytest.approx(told["hours"] * 4)
    assert "3 epochs, at most" in told["stages"][2]["notes"][-1]
    assert told["stages"][0]["bottleneck"] == "start", "so few clips take less than to begin"


def test_bars_have_one_scale(tmp_path: Path) -> None:
    drawn = bars(planned(tmp_path).stages)
    assert max(bar.length for bar in drawn) == pytest.approx(480)
    assert [bar.top for bar in drawn] == sorted({bar.top for bar in drawn})


@pytest.mark.slow
def test_this_machine_is_measured(mini_experiment: Experiment) -> None:
    heads = {**mini_experiment.heads.model_dump(), "features": "principal"}
    extraction = {**mini_experiment.extraction.model_dump(), "captioner": None, "codec": "int8", "pool": "none"}
    captioner = {**mini_experiment.captioner.model_dump(), "window_seconds": 1.0}
    config = Experiment.model_validate(
        {**mini_experiment.model_dump(), "heads": heads, "extraction": extraction, "captioner": captioner}
    )
    result = verb.run(PlanArguments(config=config))
    assert "this machine" in result.machines
    assert result.usd == 0
    assert all(0 < stage.hours < 1 for stage in result.stages[:3])
    assert any("measured here within a minute" in said for said in result.assumptions)
