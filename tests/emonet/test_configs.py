from __future__ import annotations

import pytest

from cache.store import ExtractionRecord
from emonet.configs import CaptionerConfig, EvaluationConfig, ExtractionConfig, HeadsConfig
from emonet.schema import Schema, digest


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (HeadsConfig(), "dc2707bc719df88eba85bd72cfde0eaab96dfb5886117fc730670748ba19f8c2"),
        (ExtractionConfig(workers=2), "52348ea8c398600cb79efb6b181ce511b9cfbf4676b084f4d2cdeebb11ba9c6d"),
        (CaptionerConfig(), "6ac4b8a1684b6efa5e91dc4ee5291f40d23b38657ab3f014441488904ee9f765"),
        (EvaluationConfig(), "1667a5be83f292650e11caa065380ed069947d45cca952414f4417e52c72466a"),
    ],
)
def test_what_was_done_before_later_fields_came_counts_as_done(config: Schema, expected: str) -> None:
    assert digest(config.distinguishing()) == expected


def test_what_tells_results_apart_has_later_fields_that_were_set() -> None:
    changed = HeadsConfig(ensemble=5).distinguishing()
    assert changed["ensemble"] == 5
    assert "layers" not in changed
    assert "memory" not in HeadsConfig().distinguishing(exclude={"memory"})


def test_how_a_captioner_is_trained_does_not_tell_results_apart_and_on_how_many_devices_does() -> None:
    def told(**changes: object) -> object:
        return CaptionerConfig.model_validate(changes).distinguishing(exclude=CaptionerConfig.how_fields)

    assert told(strategy="fsdp", save_every_minutes=1.0) == told()
    assert told(devices=2) != told()
    assert told(num_nodes=2) != told()


def test_a_store_of_states_of_the_last_layer_is_the_same_as_ever() -> None:
    record = ExtractionRecord(
        corpus="c", corpus_fingerprint="f", clips=3, encoder="e", encoder_digest="d", window_seconds=1.0, frames=50,
        width=8, mels=80, precision="float32", batch_size=2, shard_clips=4,
    )  # fmt: skip
    assert digest(record.identity()) == "98712d2069f27ccbbcc52214614c760d12b596157df93b194c2df13f4ab50340"
