from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from emonet.configs import HeadsConfig
from emonet.errors import RequestError
from experiments import extract
from experiments.cli.verbs import main
from experiments.core import Experiment
from experiments.heads import verb as heads
from experiments.parts import verb as parts
from experiments.parts.verb import joining

pytestmark = pytest.mark.numeric


def changed(experiment: Experiment, **settings: object) -> Experiment:
    config = HeadsConfig.model_validate({**experiment.heads.model_dump(), **settings})
    return experiment.model_copy(update={"heads": config})


@pytest.mark.slow
def test_the_last_of_several_parts_makes_the_model_that_one_process_makes(
    mini_experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = changed(mini_experiment, inputs=["statistics", "flatten"], loss="auto", ensemble=2)
    extract.run(experiment)
    first, second = (changed(experiment, num_shards=2, shard_index=index) for index in (0, 1))
    part = parts.run(second)
    assert isinstance(part, parts.HeadsPart)
    assert (part.targets, part.missing) == (("anger",), (0,))
    assert not (experiment.folder / "heads.json").exists()
    parts.show(part)
    assert "the model is not there yet: shard-index 0" in capsys.readouterr().err
    assert parts.run(second).run_id == part.run_id, "it is there"

    with FileLock(experiment.folder / ".heads.join.lock"):  # as another process, that finds all parts too
        left = parts.run(first)
        assert isinstance(left, parts.HeadsPart)
        assert left.missing == ()
    joined = parts.run(first)
    assert isinstance(joined, heads.HeadsResult)
    assert not (experiment.folder / parts.FOLDER).exists()
    assert parts.run(second).run_id == joined.run_id, "all is done"
    assert heads.run(experiment).run_id == joined.run_id, "nor does a process that knows of no parts do it again"

    alone = heads.run(experiment, out=experiment.runs / "alone")
    # Products of two experts or of one: the order of sums.
    for metric in ("mae", "pearson"):
        assert joined.test.of(metric).mean.value == pytest.approx(alone.test.of(metric).mean.value, abs=1e-4)
    assert joined.uncertainty is not None
    one, other = (pd.read_parquet(result.experts / "predictions.parquet") for result in (joined, alone))
    pd.testing.assert_frame_equal(one, other, check_exact=False, atol=1e-4)
    for name in ("anger", "anger.2", "fear", "fear.2"):
        mine, theirs = (load_file(result.experts / f"{name}.safetensors") for result in (joined, alone))
        assert all(torch.allclose(tensor, theirs[key], atol=1e-4) for key, tensor in mine.items())


def test_a_part_that_cannot_be_is_refused(mini_experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match=r"(?s)no such part of the experts.*--heads\.shard-index 0 to 1"):
        parts.run(changed(mini_experiment, num_shards=2, shard_index=2))
    assert main(["heads", "--shard-index", "1", "--runs", str(mini_experiment.runs)]) == 2
    assert "there is no such part of the experts" in capsys.readouterr().err
    assert main(["heads", "--folds", "3", "--num-shards", "2", "--runs", str(mini_experiment.runs)]) == 2
    assert "an evaluation over folds is not split into parts" in capsys.readouterr().err


@pytest.mark.slow
def test_more_parts_than_experts_are_refused(mini_experiment: Experiment) -> None:
    extract.run(mini_experiment)
    with pytest.raises(RequestError, match=r"(?s)more parts than experts.*--heads\.num-shards 1 to 2"):
        parts.run(changed(mini_experiment, num_shards=3))


@pytest.mark.slow
def test_devices_and_parts_do_not_make_a_stage_another_one(mini_experiment: Experiment) -> None:
    experiment = changed(mini_experiment, inputs=["statistics"])
    extract.run(experiment)
    spread = heads.run(changed(experiment, devices=("cpu", "cpu")))
    assert heads.run(experiment).run_id == spread.run_id
    assert "devices" not in json.loads((experiment.folder / "heads.json").read_text())


def test_who_has_joined_lets_others_join(tmp_path: Path) -> None:
    first = joining(tmp_path)
    assert first is not None
    with first:
        assert joining(tmp_path) is None
    second = joining(tmp_path)  # while the first one is still known
    assert second is not None
    with second:
        pass
