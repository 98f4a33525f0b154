"""What MLflow loads a registered `emonet-voice` through (`loader_module`); it imports nothing of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from emonet.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

    from emonet.pipeline import EmotionPipeline


class VoiceModel:
    """The pyfunc: audio paths in, a frame of scores out.

    Args:
        pipeline: encoder and experts.
    """

    def __init__(self, pipeline: EmotionPipeline) -> None:
        self.pipeline = pipeline

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Scores of recordings.

        Args:
            model_input: a column `audio` of paths.
            params: unused; part of MLflow's interface.

        Returns:
            One row per recording, one column per target.

        Raises:
            AudioError: if a recording cannot be used.
        """
        return self.pipeline.frame([Path(path) for path in model_input["audio"]])


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> VoiceModel:
    """What MLflow calls; `model_config` may hold `experts_precision`: float32, bf16 or int8."""
    from emonet.compact import ExpertsPrecision
    from emonet.pipeline import EmotionPipeline

    precision = (model_config or {}).get("experts_precision", "float32")
    if precision not in get_args(ExpertsPrecision):
        raise RequestError(
            "there is no such precision of experts",
            where="model_config: experts_precision",
            expected=", ".join(get_args(ExpertsPrecision)),
            found=repr(precision),
        )
    return VoiceModel(EmotionPipeline.from_folder(data_path, experts_precision=precision))
