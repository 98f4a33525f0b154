"""The encoder of an experiment: a captioner's, or that of a plug-in."""

from __future__ import annotations

from emonet.encoders import weights_identity
from emonet.errors import RequestError
from emonet.runtime import PLUGIN
from experiments.core.config import Experiment

CAPTIONER = "captioner"  # of `extraction.encoder`: the encoder is a captioner's


def named_encoder(experiment: Experiment) -> str | None:
    """What the configuration names: `plugin:NAME[:ARGUMENT]` or a captioner; None is the experiment's own captioner.

    Raises:
        RequestError: if it names two encoders, or none.
    """
    config = experiment.extraction
    if config.encoder == CAPTIONER:
        return config.captioner
    if config.captioner is not None:
        raise RequestError(
            "--extraction.encoder and --extraction.captioner name two encoders",
            expected="one of them",
            found=f"{config.encoder} and {config.captioner}",
        )
    for field, default in (("compile", False), ("layers", "last"), ("window_seconds", None)):
        if getattr(config, field) != default:
            flag = f"--extraction.{field.replace('_', '-')}"
            raise RequestError(f"{flag} is for a captioner's encoder", found=f"encoder {config.encoder}")
    return PLUGIN + config.encoder


def identity_of(place: str) -> str:
    """What tells an encoder from others: SHA-256 over its weights' files, or the digest of a plug-in's.

    Args:
        place: folder or hub id of a captioner, or `plugin:NAME[:ARGUMENT]`.

    Raises:
        RequestError: if there is no such encoder, or its plug-in cannot be used.
        EmonetError: if the hub cannot be reached.
    """
    if not place.startswith(PLUGIN):
        return weights_identity(place)
    from emonet.encoders import open_encoder

    return open_encoder(place, device="cpu").digest
