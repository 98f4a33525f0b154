from __future__ import annotations

import pytest

from emonet.errors import RequestError
from experiments import codecs, extract
from experiments.config import Experiment


def changed(experiment: Experiment, **extraction: object) -> Experiment:
    fields = experiment.model_dump()
    return Experiment.model_validate(fields | {"extraction": fields["extraction"] | extraction})


@pytest.mark.slow
def test_every_way_to_keep_states_is_compared(mini_experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    extract.run(mini_experiment)
    result = codecs.run(mini_experiment)
    assert list(result.ways) == ["lossless", "bfloat", "int8", "lossless-speech", "int8-speech"]
    lossless, bfloat, int8, speech, both = result.ways.values()
    assert (lossless.largest_error, lossless.rms_error) == (0, 0)
    assert lossless.mae_change.value == lossless.pearson_change.low == lossless.pearson_change.high == 0
    assert 0 < bfloat.rms_error < 0.004  # half a step of 8 significant bits, uniform: 0.0011 to 0.0023
    assert 0 < int8.rms_error < 0.05
    assert speech.rms_error > 0
    assert int8.bytes_per_clip < bfloat.bytes_per_clip < lossless.bytes_per_clip
    assert both.bytes_per_clip < speech.bytes_per_clip < lossless.bytes_per_clip
    for way in result.ways.values():
        change = way.test.mae.mean.value - lossless.test.mae.mean.value  # type: ignore[operator]
        assert way.mae_change.value == pytest.approx(change, abs=1e-6)
        assert way.mae_change.low <= way.mae_change.value <= way.mae_change.high  # type: ignore[operator]
    assert not (mini_experiment.folder / "codecs").exists()
    assert (mini_experiment.folder / "codecs.json").exists()
    codecs.show(result)
    shown = capsys.readouterr().err
    assert "lossless-speech" in shown
    assert codecs.run(mini_experiment) == result  # up to date


def test_a_store_that_lost_something_is_no_reference(mini_experiment: Experiment) -> None:
    experiment = changed(mini_experiment, codec="int8", max_failed=1.0)
    extract.run(experiment)
    with pytest.raises(RequestError, match=r"(?s)lost nothing.*found: +codec int8.*--codec lossless"):
        codecs.run(experiment)
