"""Models that run here: emotion2vec and SenseVoice through FunASR, audEERING's wav2vec 2.0 for three dimensions."""

from __future__ import annotations

import importlib.util
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, final

import numpy as np

from emonet.audio import decode
from emonet.clips import Clip
from emonet.encoders import folder_digest, weights_identity
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.evaluation import Scored
from emonet.peers.labels import open_labels
from emonet.runtime import Progress, expanded, ignore
from emonet.targets import TargetSpec

if TYPE_CHECKING:
    import torch

AUDEERING = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
_TAGS = re.compile(r"<\|([A-Za-z_]+)\|>")


class LocalModel(ABC):
    """A model that hears one clip at a time, at most 30 s.

    Args:
        labels: name of the shipped map of its labels.
        targets: of which it scores those that it can; None is all.
    """

    about: str
    """Where its weights come from, and their licence."""
    weights: str
    """What tells them from others: a digest; the name where a hub keeps them from us."""

    def __init__(self, labels: str, targets: TargetSpec | None) -> None:
        self._labels = open_labels(labels).within(targets)
        self.target_spec = self._labels.target_spec

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Shares of its labels, on the scales of the targets; a clip that cannot be decoded is refused."""
        found: list[list[float] | str] = []
        progress(0, len(clips))
        for clip in clips:
            try:
                heard = self._hear(decode(clip.audio, start=clip.start, end=clip.end).samples)
            except AudioError as error:
                heard = error.reason
            found.append(heard if isinstance(heard, str) else self._labels.scores(heard))
            progress(len(found), len(clips))
        return Scored.of(clips, self.target_spec, found)

    @abstractmethod
    def _hear(self, samples: np.ndarray) -> dict[str, float] | str:
        """Label -> share (0 to 1) for 16 kHz audio, or why there are none."""


@final
class Emotion2vec(LocalModel):
    """emotion2vec+: probabilities of nine classes."""

    about = "emotion2vec, FunASR's model licence"

    def __init__(self, argument: str, device: torch.device, targets: TargetSpec | None) -> None:
        super().__init__("emotion2vec", targets)
        self._model, self.weights = _funasr("emotion2vec", argument or "iic/emotion2vec_plus_large", device)

    def _hear(self, samples: np.ndarray) -> dict[str, float] | str:
        row = _first(self._model, samples, granularity="utterance", extract_embedding=False)
        labels, scores = row.get("labels"), row.get("scores")
        if not isinstance(labels, list) or not isinstance(scores, list) or len(labels) != len(scores):
            raise EmonetError("emotion2vec gives no labels with scores", found=sorted(row))
        # Labels are in Chinese and English, as in `生气/angry`; the last one is `<unk>` or empty.
        return {str(name).rpartition("/")[2].strip(): float(share) for name, share in zip(labels, scores, strict=True)}


@final
class SenseVoice(LocalModel):
    """SenseVoice: a transcript with a tag for the emotion; the emotion that it names is fully there, all others not."""

    about = "SenseVoice, FunASR's model licence"

    def __init__(self, argument: str, device: torch.device, targets: TargetSpec | None) -> None:
        super().__init__("sensevoice", targets)
        self._model, self.weights = _funasr("sensevoice", argument or "iic/SenseVoiceSmall", device)

    def _hear(self, samples: np.ndarray) -> dict[str, float] | str:
        row = _first(self._model, samples, language="auto", use_itn=False)
        tags = _TAGS.findall(str(row.get("text", "")))
        known = {*self._labels.labels, "neutral", *open_labels("sensevoice").labels}
        named = [tag for tag in tags if tag.casefold() in known]
        return {named[0]: 1.0} if named else "it names no emotion (EMO_UNKNOWN)"


@final
class Audeering(LocalModel):
    """audEERING's regression of arousal, dominance and valence, each about 0 to 1; what leaves that is cut."""

    about = f"{AUDEERING}, CC BY-NC-SA 4.0"

    def __init__(self, argument: str, device: torch.device, targets: TargetSpec | None) -> None:
        super().__init__("audeering", targets)
        self._device = device
        self._model, self._features, self._names = _audeering(argument or AUDEERING, device)
        self.weights = _digest_of(argument or AUDEERING)

    def _hear(self, samples: np.ndarray) -> dict[str, float] | str:
        import torch

        inputs = self._features(samples, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.inference_mode():
            values = self._model(inputs.to(self._device))[0].clamp(0, 1).tolist()
        return dict(zip(self._names, values, strict=True))


def _digest_of(source: str) -> str:
    """Of all files of a folder, or of a hub model's weights, which are here by now."""
    folder = expanded(source)
    return folder_digest(folder) if folder.is_dir() else weights_identity(source)


def _funasr(peer: str, model: str, device: torch.device) -> tuple[Any, str]:
    """The model, and what tells its weights from others."""
    if importlib.util.find_spec("funasr") is None:
        raise RequestError(
            f"{peer} needs FunASR, which is not installed",
            expected=f"FunASR, and its weights {model} from modelscope.cn or Hugging Face",
            hint="pip install funasr modelscope; the weights are under FunASR's model licence",
        )
    from funasr import AutoModel

    try:
        with redirect_stdout(sys.stderr):  # it tells its version there, where --json goes
            loaded = AutoModel(model=model, device=str(device), disable_update=True, disable_pbar=True)
    except Exception as error:  # whatever FunASR, its hubs and torch raise
        raise _no_weights(peer, model, "modelscope.cn/models/iic, or huggingface.co", error) from error
    folder = expanded(str(getattr(loaded, "model_path", None) or model))  # where FunASR tells what it has downloaded
    return loaded, folder_digest(folder) if folder.is_dir() else model


def _audeering(source: str, device: torch.device) -> tuple[Any, Any, list[str]]:
    """The network, what makes its inputs, and the names of its outputs."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2PreTrainedModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    class Head(torch.nn.Module):  # names as in the checkpoint
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(config.hidden_size, config.hidden_size)
            self.out_proj = torch.nn.Linear(config.hidden_size, config.num_labels)

        def forward(self, pooled: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.out_proj(self.dense(pooled).tanh())
            return scores

    class Regression(Wav2Vec2PreTrainedModel):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.wav2vec2 = Wav2Vec2Model(config)
            self.classifier = Head(config)
            self.post_init()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.classifier(self.wav2vec2(inputs).last_hidden_state.mean(1))
            return scores

    try:
        features = Wav2Vec2FeatureExtractor.from_pretrained(source)
        model, told = Regression.from_pretrained(source, output_loading_info=True)
    except Exception as error:  # whatever transformers, the hub and safetensors raise
        raise _no_weights("audeering", source, f"huggingface.co/{AUDEERING} (CC BY-NC-SA 4.0)", error) from error
    names = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
    missing = sorted(told["missing_keys"])
    if missing or set(names) != {"arousal", "dominance", "valence"}:
        raise RequestError(
            "these are not the weights of audEERING's model",
            where=source,
            expected="an encoder and a head for arousal, dominance and valence",
            found=f"outputs {', '.join(names)}; without {', '.join(missing[:3]) or 'nothing'}",
        )
    return model.eval().to(device), features, names


def _no_weights(peer: str, model: str, source: str, error: Exception) -> RequestError:
    return RequestError(
        f"the weights of {peer} cannot be loaded",
        where=model,
        found=f"{type(error).__name__}: {error}",
        hint=f"download them where there is a network ({source}), and name the folder: scorer:{peer}:FOLDER",
    )


def _first(model: Any, samples: np.ndarray, **how: Any) -> dict[str, Any]:
    """What FunASR says to one clip."""
    with redirect_stdout(sys.stderr):
        rows = model.generate(input=samples, **how)
    row = rows[0] if isinstance(rows, list) and rows else None
    if not isinstance(row, dict):
        raise EmonetError("FunASR gives no result", found=type(rows).__name__)
    return row
