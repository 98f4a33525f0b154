"""What MLflow loads a registered `emonet-voice` through (`loader_module`); it imports nothing of MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def _load_pyfunc(data_path: str) -> VoiceModel:
    from emonet.pipeline import EmotionPipeline

    return VoiceModel(EmotionPipeline.from_folder(data_path))
