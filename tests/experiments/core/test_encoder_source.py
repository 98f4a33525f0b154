from __future__ import annotations

import pytest

from emonet.encoders import weights_identity
from emonet.errors import RequestError
from experiments.core import Experiment, identity_of, named_encoder, resolve_source


def named(**extraction: object) -> str | None:
    return named_encoder(Experiment.model_validate({"extraction": extraction}))


def test_the_encoder_is_a_captioners_unless_a_plug_in_is_named() -> None:
    assert named() is None
    assert named(captioner="openai/whisper-base") == "openai/whisper-base"
    assert named(encoder="toy:models:/weights/x") == "plugin:toy:models:/weights/x"


@pytest.mark.parametrize(
    ("extraction", "message"),
    [
        ({"encoder": "toy", "captioner": "a/b"}, r"(?s)name two encoders.*found: +toy and a/b"),
        ({"encoder": "toy", "compile": True}, r"(?s)--extraction\.compile is for a captioner's encoder.*encoder toy"),
    ],
)
def test_what_contradicts_itself_is_refused(extraction: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        named(**extraction)


def test_an_argument_that_looks_like_a_registry_is_none() -> None:
    source = "plugin:toy:models:/emonet-captioner@champion"
    assert resolve_source(source, Experiment()) == source


def test_the_identity_of_a_folder_is_that_of_its_weights(voice_parts: tuple[object, object]) -> None:
    assert identity_of(str(voice_parts[0])) == weights_identity(str(voice_parts[0]))
    with pytest.raises(RequestError, match="no installed package registers the encoder 'toy'"):
        identity_of("plugin:toy")
