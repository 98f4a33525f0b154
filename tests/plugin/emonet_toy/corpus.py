"""A folder of recordings that are named SPEAKER_EMOTION_SCORE_TAKE.wav, such as wren_anger_3_1.wav."""

from pathlib import Path

from emonet import Clip, Corpus, Progress, RequestError, Split, TargetSpec


def open_birds(path: Path, *, targets: TargetSpec, progress: Progress) -> Corpus:
    """The last speaker is the test split, the one before validation."""
    files = sorted(path.glob("*_*_*_*.wav"))
    if not files:
        raise RequestError(
            "the folder holds no recording of birds", where=path, expected="SPEAKER_EMOTION_SCORE_TAKE.wav"
        )
    speakers = sorted({file.name.split("_")[0] for file in files})
    splits: dict[str, Split] = dict.fromkeys(speakers, "train")
    splits |= {speakers[-2]: "validation", speakers[-1]: "test"}
    clips = []
    for done, file in enumerate(files, 1):
        speaker, emotion, score, _ = file.stem.split("_")
        scores = {emotion: float(score)} if emotion in targets else {}
        clips.append(Clip(f"birds/{file.stem}", file, f"birds/{speaker}", splits[speaker], scores=scores))
        progress(done, len(files))
    return Corpus(f"birds:{path}", tuple(clips), targets=targets, note="Birds: made for a test.")
