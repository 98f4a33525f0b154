from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from emonet.corpora import describe
from emonet.corpora.manifest.reader import open_manifest
from emonet.corpora.sandbox import espeak, synthesis
from emonet.corpora.sandbox.espeak import Speech, speak
from emonet.corpora.sandbox.format import LANGUAGES, NOTE, VOICES, open_sandbox, plan
from emonet.corpora.sandbox.prosody import Prosody
from emonet.corpora.sandbox.sentences import SENTENCES
from emonet.errors import EmonetError, RequestError
from emonet.targets import EMOTIONS, PLACEMENT, Affect, scores_for

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'emonet[sandbox]'")
FEW = {"emotions": ("anger", "fatigue"), "voices": ("f5", "m1"), "languages": ("en", "fr")}
RATE = espeak.SAMPLE_RATE


def bytes_of(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips, synthesised by two processes."""
    folder = tmp_path_factory.mktemp("sandbox")
    open_sandbox(folder, workers=2, **FEW)
    return folder


def root_of(folder: Path) -> Path:
    (root,) = (path for path in folder.iterdir() if path.is_dir())
    return root


def test_a_few_clips_are_synthesised_as_planned(small: Path) -> None:
    calls: list[tuple[int, int]] = []
    corpus = open_sandbox(small, progress=lambda *call: calls.append(call), **FEW)
    assert calls == []  # they are there
    assert corpus.name == "sandbox"
    assert "not a scientific corpus" in corpus.note == NOTE
    assert Counter((clip.speaker, clip.split) for clip in corpus.clips) == {
        ("sandbox/f5", "test"): 4,
        ("sandbox/m1", "train"): 4,
    }
    assert corpus.rated == EMOTIONS.ids
    assert len(corpus.scores()[~np.isnan(corpus.scores())]) == 8 * 40
    for clip in corpus.clips:
        emotion = clip.id.rsplit("-", 1)[1]
        assert dict(clip.scores) == scores_for(emotion, clip.scores[emotion])
        assert 2 <= clip.scores[emotion] <= 4
        info = sf.info(clip.audio)
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("FLAC", "PCM_16", 1, RATE)
        assert 1 < clip.seconds < 6
    assert {clip.language for clip in corpus.clips} == {"en", "fr"}
    assert describe(corpus).clips == 8


def test_the_folder_is_an_ordinary_manifest(small: Path) -> None:
    corpus = open_manifest(root_of(small) / synthesis.MANIFEST)
    assert corpus.fingerprint == open_sandbox(small, **FEW).fingerprint


def test_the_same_bytes_again_in_another_process_order_and_number(small: Path, tmp_path: Path) -> None:
    backwards = {name: tuple(reversed(values)) for name, values in FEW.items()}
    open_sandbox(tmp_path, workers=1, **backwards)
    again, first = bytes_of(root_of(tmp_path)), bytes_of(root_of(small))
    assert again.pop(synthesis.MANIFEST) != first.pop(synthesis.MANIFEST)  # other order of rows
    assert again == first
    assert len(set(first.values())) == 8


def test_speaking_leaves_no_trace_in_the_next_utterance() -> None:
    """Breath noise (f5), echo (f2) and the voice's phase are what the library itself would carry on."""
    wanted = {voice: speak(Speech("Good morning.", voice)) for voice in ("en-us+f5", "en-us+f2", "de+m1")}
    for voice in reversed(wanted):
        np.testing.assert_array_equal(speak(Speech("Good morning.", voice)), wanted[voice])
    code = (
        "import hashlib; from emonet.corpora.sandbox.espeak import *;"
        "print(hashlib.sha256(speak(Speech('Good morning.', 'en-us+f5')).tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[4]
    )
    assert other.stdout.strip() == hashlib.sha256(wanted["en-us+f5"].tobytes()).hexdigest()


def test_a_deleted_file_is_synthesised_again(small: Path) -> None:
    before = bytes_of(root_of(small))
    victim = next(root_of(small).glob("f5/*.flac"))
    victim.unlink()
    open_sandbox(small, **FEW)
    assert bytes_of(root_of(small)) == before


def test_a_failure_leaves_nothing_half(tmp_path: Path) -> None:
    def fail(completed: int, total: int) -> None:
        if completed == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_sandbox(tmp_path, workers=1, progress=fail, **FEW)
    names = [path.name for path in tmp_path.iterdir()]
    assert [name for name in names if "." not in name] == []
    assert len(open_sandbox(tmp_path, workers=1, **FEW)) == 8
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_two_processes_at_once_share_one_synthesis(tmp_path: Path, small: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from emonet.corpora import open_sandbox\n"
        "if __name__ == '__main__':\n"
        f"    print(open_sandbox(Path(sys.argv[1]), workers=1, **{FEW!r}).fingerprint)\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    both = [
        subprocess.Popen(
            [sys.executable, path, tmp_path / "corpora"], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    assert {process.communicate()[0].strip() for process in both} == {open_sandbox(small, **FEW).fingerprint}
    assert [path.name for path in (tmp_path / "corpora").iterdir() if path.is_dir()] == [root_of(small).name]


def test_a_script_without_a_guard_is_told_about_it(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "import sys; from pathlib import Path; from emonet.corpora import open_sandbox\n"
        f"open_sandbox(Path(sys.argv[1]), workers=1, **{FEW!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    done = subprocess.run(
        [sys.executable, path, tmp_path / "c"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 1
    assert "put its code under: if __name__ == '__main__':" in done.stderr


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see whether a process runs")
def test_a_kill_leaves_no_worker_and_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "import multiprocessing, sys, time; from pathlib import Path; from emonet.corpora import open_sandbox\n"
        "def stop(completed, total):\n"
        "    if completed:\n"
        "        print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "        time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        f"    open_sandbox(Path(sys.argv[1]), workers=1, progress=stop, **{FEW!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    with subprocess.Popen(
        [sys.executable, path, tmp_path / "c"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 20
    while _is_running(worker):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.05)
    assert not [child for child in (tmp_path / "c").iterdir() if child.suffix not in {".partial", ".lock"}]
    assert len(open_sandbox(tmp_path / "c", workers=1, **FEW)) == 8


def _is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"  # a zombie has ended


def test_the_plan_is_40_emotions_by_11_voices_by_4_languages() -> None:
    utterances = plan(EMOTIONS.ids, tuple(VOICES), tuple(LANGUAGES))
    assert len(utterances) == len({u.row["id"] for u in utterances}) == 40 * 11 * 4
    women = [voice for voice in VOICES if not voice.startswith("m")]
    assert (len(women), len(VOICES) - len(women)) == (6, 5)
    for split in ("test", "validation"):
        held_out = [voice for voice in VOICES if VOICES[voice] == split]
        assert [voice in women for voice in sorted(held_out)] == [True, False]
    settings = {(u.speech, u.prosody) for u in utterances}
    assert len(settings) == len(utterances)


def test_sentences_do_not_give_the_emotion_away() -> None:
    utterances = plan(EMOTIONS.ids, tuple(VOICES), tuple(LANGUAGES))
    said: dict[str, set[str]] = {}
    for utterance in utterances:
        said.setdefault(utterance.path.rsplit("-", 1)[1], set()).add(utterance.speech.text)
    words = {term for target in EMOTIONS for term in target.terms if " " not in term}
    assert min(map(len, said.values())) >= 18  # of 32: each emotion is said in most of them
    assert not words & {word.strip(".").lower() for text in SENTENCES["en"] for word in text.split()}
    assert {len(sentences) for sentences in SENTENCES.values()} == {8}


def test_a_subset_is_part_of_the_whole() -> None:
    whole = {u.path: u for u in plan(EMOTIONS.ids, tuple(VOICES), tuple(LANGUAGES))}
    for utterance in plan(**FEW):
        assert whole[utterance.path] == utterance


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voices": ("f9",)}, r"(?s)no such voice.*expected: +f1, f2.*found: +f9"),
        ({"languages": ("fr-fr",)}, r"(?s)no such language.*expected: +en, de, es, fr.*fr-fr"),
        ({"emotions": ("angr",)}, r"no target called 'angr'"),
    ],
)
def test_what_the_sandbox_lacks_is_refused(changes: dict[str, tuple[str, ...]], message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message):
        open_sandbox(tmp_path, **{**FEW, **changes})


def test_a_missing_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        from importlib import metadata

        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(
        EmonetError, match=r"(?s)needs espeak-ng, which is not installed.*pip install 'emonet\[sandbox\]'"
    ):
        open_sandbox(tmp_path, **FEW)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._locations.cache_clear()
    with pytest.raises(EmonetError, match=r"pip install 'emonet\[sandbox\]'"):
        speak(Speech("Good morning.", "en-us"))


@pytest.mark.parametrize(
    ("speech", "message"),
    [
        (Speech("Bonjour.", "fr-fr"), r"(?s)refuses espeak_SetVoiceByName.*fr-fr.*code 0.*code \d"),
        (Speech("Bonjour.", "fr+f99"), r"(?s)no such voice variant.*fr\+f99"),
        (Speech("", "fr"), r"espeak-ng said nothing"),
    ],
)
def test_what_espeak_cannot_say_is_an_error(speech: Speech, message: str) -> None:
    with pytest.raises(EmonetError, match=message):
        speak(speech)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmonetError, match=rf"(?s)cannot be written.*{tmp_path}/file.*make the folder writable"):
        open_sandbox(tmp_path / "file" / "corpora", **FEW)


def test_prosody_follows_its_formulas() -> None:
    neutral = Prosody.of(Affect(0, 0, 0))
    assert neutral == Prosody(175, 50, 50, 4, -29, 0, 0.12)
    excited, tired = Prosody.of(Affect(0, 1, 0)), Prosody.of(Affect(0, -1, 0))
    assert excited.rate > neutral.rate > tired.rate
    assert excited.pitch > neutral.pitch > tired.pitch
    assert excited.level > neutral.level > tired.level
    assert excited.word_gap == 0 < tired.word_gap
    assert Prosody.of(Affect(1, 0, 0)).range > 50 > Prosody.of(Affect(-1, 0, 0)).range
    assert Prosody.of(Affect(0, 0, -1)).tremor > neutral.tremor > Prosody.of(Affect(0, 0, 1)).tremor == 0
    assert Prosody.of(Affect(0, 0, 0), distance=3).level == -26
    for point in PLACEMENT.values():
        prosody = Prosody.of(point)
        assert 110 < prosody.rate < 280
        assert 0 < prosody.pitch < 99
        assert 0 < prosody.range < 99


def test_shaping_sets_level_brightness_and_tremor() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = (3000 * (np.sin(2 * np.pi * 200 * time) + np.sin(2 * np.pi * 4000 * time))).astype(np.int16)

    def shaped(level: float = -29, brightness: float = 0, tremor: float = 0) -> np.ndarray:
        out = Prosody(175, 50, 50, 0, level, brightness, tremor).shape(tone, RATE)
        assert out.dtype == np.int16
        assert len(out) == len(tone)
        return out / 32767

    def tilt(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
        return float(10 * np.log10(power[hertz > 2000].sum() / power[hertz < 2000].sum()))

    for level in (-29, -20):
        assert 10 * np.log10(np.mean(shaped(level) ** 2)) == pytest.approx(level, abs=0.05)
    assert tilt(shaped(brightness=0.3)) > 0.5 > tilt(shaped()) > -0.5 > tilt(shaped(brightness=-0.3))
    loudness = [float(np.std(block)) for block in np.array_split(shaped(tremor=0.5), 80)]
    steady = [float(np.std(block)) for block in np.array_split(shaped(), 80)]
    assert max(loudness) > 2.5 * min(loudness)
    assert max(steady) < 1.2 * min(steady)
    assert np.abs(shaped(level=0)).max() == 1
    assert not Prosody.of(Affect(0, 0, 0)).shape(np.zeros(100, np.int16), RATE).any()
