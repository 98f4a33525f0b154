"""Scoring recordings, sounds and streams: what pipelines on PyTorch and on ONNX Runtime have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from emonet.audio import Decoded, Excerpt, shared_decoders
from emonet.checkpoints import Population
from emonet.clips import Audio, Clip
from emonet.errors import AudioError
from emonet.evaluation import Scored
from emonet.inference.hops import HopScorer
from emonet.inference.predictions import Prediction, SampleScores, strongest_first
from emonet.inference.processing import FileProcessing
from emonet.inference.streaming import EmotionStream
from emonet.runtime import Progress, ignore
from emonet.targets import TargetSpec

if TYPE_CHECKING:
    import pandas as pd  # half a second, which `emonet predict` can do without

BATCH = 8  # recordings per pass through the encoder


class Scoring(FileProcessing):
    """Scores recordings, sounds in memory and live sound; what computes the scores is the subclasses' business.

    Recordings are decoded in processes of their own: one that crashes the decoder costs itself and nothing else.

    Args:
        target_spec: what is scored.
        population: what the experts give their training clips, as far as that is known.
    """

    def __init__(self, target_spec: TargetSpec, population: Population | None) -> None:
        self.target_spec = target_spec
        self.population = population
        self._hops = HopScorer()

    @abstractmethod
    def _scores(self, sounds: Sequence[Float32[np.ndarray, " _samples"]]) -> list[SampleScores]:
        """Scores of sounds, of which there is at least one."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets that there is an expert for."""
        return self.target_spec.ids

    def __call__(self, audio: Path | str | bytes) -> dict[str, float]:
        """Scores of one recording: emotions, strongest first, then attributes and quality in their own order.

        Args:
            audio: a file that libsndfile or FFmpeg reads, or its bytes.

        Raises:
            AudioError: if the recording cannot be used.
        """
        prediction = next(self.predict([audio]))
        if prediction.error is not None:
            raise AudioError(prediction.error, where=prediction.audio)
        return dict(prediction.scores)

    def predict(
        self, audio: Sequence[Path | str | bytes | Excerpt], *, batch_size: int = BATCH, progress: Progress = ignore
    ) -> Iterator[Prediction]:
        """Score many recordings; one that cannot be used is reported as such, and the rest is done.

        Args:
            audio: files, bytes, or parts of them.
            batch_size: recordings per pass through the encoder (count).
            progress: called with the number of finished recordings.

        Yields:
            One prediction for each, in order.
        """
        excerpts = [
            one if isinstance(one, Excerpt) else Excerpt(Path(one) if isinstance(one, str) else one) for one in audio
        ]
        yield from self._predict(excerpts, [one.audio for one in excerpts], batch_size, progress)

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Scores of clips as a table, as `emonet.Scorer` has it; one that cannot be used is refused.

        Args:
            clips: with unique ids.
            progress: called with the number of finished clips.
        """
        predictions = self._predict(clips, [clip.id for clip in clips], BATCH, progress)
        found = (one.error or [one.scores[target] for target in self.targets] for one in predictions)
        return Scored.of(clips, self.target_spec, found)

    def _predict(
        self,
        clips: Sequence[Clip | Excerpt],
        names: Sequence[Audio | str],
        batch_size: int,
        progress: Progress,
    ) -> Iterator[Prediction]:
        progress(0, len(clips))
        heard = shared_decoders().decode(clips, seconds=self.encoder.window.seconds, ahead=2 * batch_size)
        for start in range(0, len(clips), batch_size):
            batch = list(islice(heard, batch_size))
            yield from self.predictions(names[start : start + batch_size], batch)
            progress(start + len(batch), len(clips))

    def frame(self, audio: Sequence[Path | str | bytes]) -> pd.DataFrame:
        """Scores of many recordings as a table: one row each, one column per target.

        Raises:
            AudioError: if a recording cannot be used.
        """
        predictions = list(self.predict(audio))
        for prediction in predictions:
            if prediction.error is not None:
                raise AudioError(prediction.error, where=prediction.audio)
        import pandas as pd

        return pd.DataFrame([dict(p.scores) for p in predictions], columns=list(self.targets))

    def score_samples(self, sounds: Sequence[Float32[np.ndarray, " _samples"]]) -> list[SampleScores]:
        """Scores of sounds in memory, in one pass through the encoder.

        What stands beside a sound changes nothing in float32; in bf16 some processors round passes of other sizes
        otherwise (up to 1e-4 of 4 with Whisper base on Intel's AMX).

        Args:
            sounds: 16 kHz mono, full scale at -1 and 1; what is longer than the window is cut.
        """
        return self._scores(sounds) if sounds else []

    def open_stream(
        self, rate: int, *, hop: float = 1.0, window: float | None = None, lossless: bool = False
    ) -> EmotionStream:
        """Score sound as it comes: the last `window` seconds every `hop` seconds; a context manager.

        Several streams of a pipeline may be open at once, each fed by a thread of its own: their hops are scored
        together.

        Args:
            rate: of the samples that will be fed, in Hz.
            hop: seconds between two scores.
            window: seconds that each score hears, at most the model's window; None is all of that.
            lossless: score every hop, as for files; else the latest one is scored where sound comes too fast.

        Raises:
            RequestError: if rate, hop or window are out of range.

        Example:
            >>> with pipeline.open_stream(48_000) as stream:  # doctest: +SKIP
            ...     for chunk in microphone:
            ...         for heard in stream.feed(chunk):
            ...             print(heard.end, heard.scores)
        """
        heard = self.encoder.window
        return EmotionStream(self._hops, self.score_samples, heard, rate, hop=hop, window=window, lossless=lossless)

    def predictions(self, names: Sequence[Audio | str], heard: Sequence[Decoded | AudioError]) -> Iterator[Prediction]:
        """Score recordings that are decoded already, in one pass through the encoder.

        Args:
            names: what each is called.
            heard: their sound, or why there is none.

        Yields:
            One prediction for each, in order.
        """
        rows = iter(self.score_samples([sound.samples for sound in heard if not isinstance(sound, AudioError)]))
        for name, sound in zip(names, heard, strict=True):
            label = "bytes" if isinstance(name, bytes) else str(name)
            if isinstance(sound, AudioError):
                yield Prediction(label, error=sound.reason)
                continue
            row = next(rows)
            yield Prediction(
                label,
                scores=strongest_first(row.scores, self.target_spec),
                seconds=round(sound.seconds, 3),
                total=round(sound.total, 3),
                notices=(*(notice.text for notice in sound.notices), *_strange(row.unfamiliarity)),
                uncertainties=row.uncertainties,
                standardised={} if self.population is None else self.population.standardised(row.scores),
                unfamiliarity=row.unfamiliarity,
            )


def _strange(unfamiliarity: float | None) -> tuple[str, ...]:
    if unfamiliarity is None or unfamiliarity <= 1:
        return ()
    far = f"{unfamiliarity:.1f} times as far as 99 % of its validation clips reach"
    return (f"unlike anything the model was trained on: {far}",)
