"""Services as scorers: each clip is sent once, its answer kept, and scores are read from what is kept."""

from __future__ import annotations

import hashlib
import io
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from emonet.audio import audio_bytes, decode, probe
from emonet.clips import Clip
from emonet.errors import AudioError, EmonetError
from emonet.evaluation import Scored
from emonet.names import as_text, on_one_line
from emonet.peers.calling import Caller, Manners, Reply, Request, UnansweredError, said
from emonet.peers.costs import Consent, CostEstimate, Ledger, Price, Purse
from emonet.peers.replay import Kept, Replay
from emonet.peers.secret_headers import Secrets
from emonet.runtime import Progress, ignore
from emonet.schema import digest
from emonet.targets import TargetSpec
from emonet.windows import PRETRAINED_SECONDS, SAMPLE_RATE

_Outcome = tuple[Literal["answered", "refused", "silent", "unheard", "stopped"], str]
"""What came of one clip, and why there is no answer: the service refuses it, says nothing, it cannot be decoded."""

MOST_FAILED = 8  # clips on end that get no answer: then nobody is there
_NONE_KEPT = "not asked: no answer is kept"


@dataclass(frozen=True)
class Terms:
    """On which terms services may be called.

    Args:
        folder: of the files of answers, one per service and model.
        max_cost: that all of them may cost together without asking (US dollars).
        consent: asked before more is spent; None refuses it.
        replay_only: score from the answers that are kept, and call nobody; no key is needed.
        say: told in a sentence what its user should know.
        purse: what was spent on these terms so far.
    """

    folder: Path = Path("runs/peers")
    max_cost: float = 0.0
    consent: Consent | None = None
    replay_only: bool = False
    say: Callable[[str], None] = ignore
    purse: Purse = field(default_factory=Purse, compare=False)


class Service(ABC):
    """What one kind of service is asked, and how its answers are read."""

    name: str
    """Of its file of answers: kind and model."""
    url: str
    target_spec: TargetSpec
    price: Price | None
    manners: Manners
    letters: int = 0
    """Of the prompt (characters)."""

    @property
    @abstractmethod
    def asked(self) -> Any:
        """What fixes the answer beside the audio, JSON-able: model, prompt and settings; no secret."""

    @abstractmethod
    def request(self, wav: bytes) -> Request:
        """What is sent for a recording: WAV, 16 kHz, mono, 16 bit."""

    @abstractmethod
    def read(self, text: str) -> list[float] | str:
        """Scores in the order of the targets out of a good answer's body, or why there are none."""

    @property
    def read_by(self) -> Any:
        """What fixes how an answer is read beside its code, JSON-able; no secret."""
        return None

    @property
    def headers(self) -> Mapping[str, str]:
        """Of each request, with `${NAME}` in the place of secrets."""
        return self.request(b"").headers

    def hopeless(self, reply: Reply) -> str | None:  # noqa: ARG002 most services have none
        """Why no request can succeed, where a refusal of one says so."""
        return None

    def output_tokens(self, text: str) -> float | None:  # noqa: ARG002 most services count none
        """What the answer says that it was counted as (tokens)."""
        return None


@final
class RemoteScorer:
    """A service as a scorer.

    Args:
        service: that is asked.
        terms: on which.
        max_cost: of the peer's own settings, in the place of that of the terms (USD).
    """

    def __init__(self, service: Service, terms: Terms, max_cost: float | None = None) -> None:
        self._service, self._terms = service, terms
        self.max_cost, self.purse = (terms.max_cost, terms.purse) if max_cost is None else (max_cost, Purse())
        self.target_spec = service.target_spec
        self.unanswered = 0
        self.replay = terms.folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', service.name).strip('-.')}.jsonl"

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Scores of the first 30 s of each clip; one that cannot be used, or that the service refuses, is refused.

        Raises:
            RequestError: if it would cost more than was agreed to, a key is not set, or the service refuses everybody.
            EmonetError: if the service stops answering, the limit is reached, or answers cannot be kept.
        """
        replay = Replay(self.replay, self._terms.say)
        keys = [self._key(clip) for clip in clips]
        wanted = _unanswered(keys, clips, replay)
        done = len(clips) - len(wanted)
        progress(done, len(clips))
        if wanted and not self._terms.replay_only:
            self._ask(wanted, replay, lambda more: progress(done + more, len(clips)))
        else:
            progress(len(clips), len(clips))
        self.unanswered += len(_unanswered(keys, clips, replay))
        return Scored.of(clips, self.target_spec, [self._found(key, replay) for key in keys])

    def estimate(self, clips: Iterable[Clip]) -> CostEstimate | None:
        """What scoring these clips would cost, of which some answers may be kept; None if nobody would be asked.

        Args:
            clips: taken one by one; none of their sound is kept in memory.
        """
        if self._terms.replay_only:
            return None
        replay, seconds = Replay(self.replay, ignore), dict[str, float]()
        for clip in clips:
            key = self._key(clip)
            if isinstance(key, str) and key not in seconds and not _done(replay.get(key)):
                seconds[key] = _seconds(clip)
        return self._estimate(list(seconds.values())) if seconds else None

    def _estimate(self, seconds: Sequence[float]) -> CostEstimate:
        service = self._service
        dollars = None if service.price is None else sum(map(self._price, seconds))
        as_of = "" if service.price is None else service.price.as_of
        return CostEstimate(service.name, len(seconds), sum(seconds), dollars, as_of)

    @property
    def identity(self) -> str:
        """What tells its scores from others: what is asked of whom, and how answers are read; no secret."""
        return digest([self._service.asked, self._service.url, self._service.read_by, self.target_spec.to_json()])

    @property
    def free(self) -> bool:
        """Whether an answer costs nothing, whatever is asked."""
        price = self._service.price
        return price is not None and price.of(1.0, 1, 1.0) == 0

    def _key(self, clip: Clip) -> str | AudioError:
        """Of a clip's answer, or why the clip cannot be read."""
        heard = _source(clip)
        if isinstance(heard, AudioError):
            return heard
        return digest({"asked": self._service.asked, "url": self._service.url, "audio": heard})

    def _found(self, key: str | AudioError, replay: Replay) -> list[float] | str:
        if isinstance(key, AudioError):
            return key.reason
        kept = replay.get(key)
        if kept is None:
            return _NONE_KEPT
        found = kept.failed if kept.failed is not None else self._service.read(kept.text)
        return on_one_line(found) if isinstance(found, str) else found

    def _ask(self, wanted: Mapping[str, Clip], replay: Replay, told: Callable[[int], None]) -> None:
        service = self._service
        seconds = {key: _seconds(clip) for key, clip in wanted.items()}
        secrets = Secrets(service.headers.values())
        ledger = Ledger(self._estimate(list(seconds.values())), self.max_cost, self._terms.consent, self.purse)
        with replay:
            asking = _Asking(service, ledger, Caller(secrets, service.manners), replay)
            pending = {
                k: clip for k, clip in wanted.items() if not _done(replay.get(k))
            }  # another process may have asked
            told(len(wanted) - len(pending))
            jobs = [(key, clip, self._price(seconds[key]), seconds[key]) for key, clip in pending.items()]
            asking.all(jobs, lambda more: told(len(wanted) - len(pending) + more))

    def _price(self, seconds: float) -> float:
        price = self._service.price
        return 0.0 if price is None else price.of(seconds, self._service.letters)


@final
@dataclass
class _Asking:
    """One run of questions to a service."""

    service: Service
    ledger: Ledger
    caller: Caller
    replay: Replay
    answered: bool = False
    failed: list[str] = field(default_factory=list)
    """Why the last clips on end got no answer."""

    def all(self, jobs: Iterable[tuple[str, Clip, float, float]], told: Callable[[int], None]) -> None:
        """Ask for every clip; the first error that concerns them all ends it, and what is under way gives up."""
        pool = ThreadPoolExecutor(self.service.manners.parallel, thread_name_prefix="peer")
        try:
            waiting = [pool.submit(self._unless_stopped, *job) for job in jobs]
            for done, future in enumerate(as_completed(waiting), 1):
                self._take(future)
                told(done)
        finally:
            self.caller.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.caller.close()

    def _take(self, future: Future[_Outcome]) -> None:
        outcome, why = future.result()
        if outcome == "answered":
            self.answered, self.failed = True, []
        elif outcome == "silent" or (outcome == "refused" and not self.answered):
            self.failed.append(why)
        if len(self.failed) >= MOST_FAILED:
            raise EmonetError(
                f"{self.service.name} does not answer: {MOST_FAILED} clips on end",
                where=self.service.url,
                found=self.failed[-1],
                hint="the answers so far are kept; run the same command again later, it goes on where it stopped",
            )

    def _unless_stopped(self, key: str, clip: Clip, dollars: float, seconds: float) -> _Outcome:
        if self.caller.stop.is_set():
            return "stopped", ""
        try:
            return self._one(key, clip, dollars, seconds)
        except BaseException:
            self.caller.stop.set()  # at once: the next clip is about to be sent
            raise

    def _one(self, key: str, clip: Clip, dollars: float, seconds: float) -> _Outcome:
        try:
            wav = _wav(clip)
        except AudioError as error:
            return "unheard", self._keep(key, clip, Kept(failed=error.reason))
        ledger = self.ledger
        try:
            reply = self.caller.send(
                self.service.request(wav), lambda: ledger.spend(dollars), lambda: ledger.correct(-dollars)
            )
        except UnansweredError as error:
            if self.caller.stop.is_set():
                return "stopped", ""
            return "silent", self._keep(key, clip, Kept(failed=f"no answer: {error}"))
        if not reply.good:
            if (why := self.service.hopeless(reply)) is not None:
                raise EmonetError(why, where=self.service.url, found=f"HTTP {reply.status}: {said(reply.text)}")
            return "refused", self._keep(key, clip, Kept(failed=f"HTTP {reply.status}: {said(reply.text)}"))
        price, tokens = self.service.price, self.service.output_tokens(reply.text)
        if price is not None:
            ledger.correct(price.of(seconds, self.service.letters, tokens) - dollars)
        return "answered", self._keep(key, clip, Kept(reply.text))

    def _keep(self, key: str, clip: Clip, kept: Kept) -> str:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.replay.keep(key, kept, clip=as_text(clip.id), peer=self.service.name, time=now)
        return kept.failed or ""


def _unanswered(keys: Sequence[str | AudioError], clips: Sequence[Clip], replay: Replay) -> dict[str, Clip]:
    """Key -> a clip of this sound, of those that no answer is kept of."""
    of = zip(keys, clips, strict=True)
    return {key: clip for key, clip in of if isinstance(key, str) and not _done(replay.get(key))}


def _done(kept: Kept | None) -> bool:
    return kept is not None and kept.failed is None


def _source(clip: Clip) -> str | AudioError:
    """What tells the sound of a clip from any other, without decoding it."""
    try:
        content = audio_bytes(clip.audio)
        content = content if isinstance(content, bytes) else content.read_bytes()
    except AudioError as error:
        return error
    except OSError as error:
        return AudioError(f"the file cannot be read: {error.strerror or error}", where=clip.audio)
    return digest([hashlib.sha256(content).hexdigest(), clip.start, clip.end])


def _seconds(clip: Clip) -> float:
    if not np.isfinite(clip.seconds):
        try:
            total = probe(clip.audio).seconds
        except AudioError:
            return 0.0
        begin = clip.start or 0.0
        return min(PRETRAINED_SECONDS, max(0.0, (total if clip.end is None else min(clip.end, total)) - begin))
    return min(PRETRAINED_SECONDS, clip.seconds)


def _wav(clip: Clip) -> bytes:
    """The clip as its models hear it: 16 kHz, mono, at most 30 s; 16 bit.

    Raises:
        AudioError: if it cannot be used.
    """
    import soundfile

    samples = decode(clip.audio, start=clip.start, end=clip.end).samples
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
