"""Promotion after a comparison: whether its challenger becomes the champion, and doing so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.evaluation import Verdict, judge
from emonet.tracking import hidden
from experiments.compare.work import Compared

if TYPE_CHECKING:
    from emonet.registry import Version
    from experiments.arguments import CompareArguments
    from experiments.compare.models import Model


@dataclass(frozen=True)
class Challenge:
    """Who challenges whom.

    Args:
        challenger: a registered version.
        champion: the version that is `@champion` when the comparison begins.
    """

    challenger: Model
    champion: Model

    @property
    def versions(self) -> tuple[Version, Version]:
        """Challenger and champion in the registry."""
        assert self.challenger.version is not None
        assert self.champion.version is not None
        return self.challenger.version, self.champion.version


def with_champion(models: Sequence[str], uri: str) -> tuple[str, ...]:
    """What to compare for a promotion: one model is compared with the champion.

    Raises:
        RequestError: if there is no champion.
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import CHAMPION, VOICE, find_version

    if find_version(VOICE, CHAMPION, uri) is None:
        raise RequestError(
            "there is no @champion that could be challenged",
            where=hidden(uri),
            hint="emonet registry promote VERSION --yes makes a version the champion without a comparison",
        )
    return (*models, CHAMPION) if len(models) == 1 else tuple(models)


def challenge_of(models: Sequence[Model]) -> Challenge:
    """Who challenges whom among the models.

    Raises:
        RequestError: if they are not the champion and one other registered version.
    """
    from emonet.registry import CHAMPION

    champions = [model for model in models if model.version is not None and CHAMPION in model.version.aliases]
    others = [model for model in models if model not in champions]
    if len(champions) != 1 or len(others) != 1:
        raise RequestError(
            "--promote decides between the champion and one challenger",
            expected="emonet compare CHALLENGER --on CORPUS --promote, or CHALLENGER and champion",
            found=", ".join(model.label for model in models),
        )
    if others[0].version is None:
        raise RequestError(
            "only a registered version can be promoted",
            found=others[0].given,
            expected="a version or an alias of emonet-voice",
            hint="emonet registry list; emonet heads registers what it trains",
        )
    return Challenge(others[0], champions[0])


def verdict_of(challenge: Challenge, compared: Compared, margin: float) -> Verdict:
    """What the rule says of the comparison; forced ones promote nobody."""
    challenger, champion, comparison = challenge.challenger, challenge.champion, compared.comparison
    if compared.forced:
        return Verdict(
            promote=False,
            reasons=("the comparison was forced on clips that a model was trained on: it proves nothing",),
        )
    both = [target for target in champion.targets if target in challenger.targets]
    verdict = judge(
        comparison.pair(challenger.label, champion.label),
        comparison.test,
        ranges={target.id: target.high - target.low for target in compared.clips.targets},
        margin=margin,
        alpha=comparison.alpha,
        missing=[target for target in champion.targets if target not in challenger.targets],
        unrated=[target for target in both if target not in comparison.targets],
    )
    unknown = [label for label, origin in compared.origins.items() if origin.known == "unknown"]
    notes = [f"that {label} was not trained on these clips is not known" for label in unknown]
    if comparison.resampled == "clips":
        notes.append(f"clips were drawn, since there are only {comparison.speakers} speakers: it holds for these")
    return replace(verdict, reasons=(*verdict.reasons, *notes))


def apply_verdict(
    challenge: Challenge, verdict: Verdict, arguments: CompareArguments, uri: str, run_id: str
) -> tuple[bool, tuple[str, ...]]:
    """Move `@champion` if the verdict says so and nobody has moved it meanwhile.

    Args:
        challenge: who challenges whom.
        verdict: of the rule.
        arguments: of the verb.
        uri: of the registry.
        run_id: of the comparison.

    Returns:
        Whether it was moved, and why or why not.

    Raises:
        EmonetError: if the registry cannot be used.
    """
    from emonet.registry import ChampionMovedError, promote

    challenger, champion = challenge.versions
    if not verdict.promote:
        return False, (*verdict.reasons, f"version {champion.version} stays @champion")
    try:
        promote(challenger, uri, arguments.runs, expected=champion.version, why=f"compare {run_id}")
    except ChampionMovedError as error:
        now = "no version is" if error.now is None else f"version {error.now} is"
        told = f"{error.what}: {now} champion in place of {champion.version}; compare with that one"
        return False, (*verdict.reasons, told)
    moved = f"version {challenger.version} is @champion now, in place of {champion.version}"
    return True, (*verdict.reasons, f"{moved}; emonet registry rollback undoes it")
