"""The champion: which version of the registry it is, and what should be known of it, said by the verbs that use it."""

from __future__ import annotations

from pathlib import Path

from experiments.core import console


def tell_version(model: str, runs: Path) -> None:
    """Say which version `@champion` or `@candidate` is, and what should be known of it; nothing of other models.

    Args:
        model: as it was asked for.
        runs: folder with the embedded registry.
    """
    from emonet.registry import CANDIDATE, CHAMPION, PUBLISHED, VOICE, find_version
    from emonet.tracking import default_uri

    if not model.startswith(f"models:/{VOICE}@"):
        return
    uri = default_uri(runs)
    champion, candidate = find_version(VOICE, CHAMPION, uri), find_version(VOICE, CANDIDATE, uri)
    used = {f"models:/{VOICE}@{alias}": v for alias, v in ((CHAMPION, champion), (CANDIDATE, candidate))}
    version = used.get(model)
    if version is not None:
        origin = (
            "imported from published files"
            if version.experiment == PUBLISHED
            else (f"trained by the experiment {console.name(repr(version.experiment))}")
        )
        console.say(f"model: {VOICE} version {version.version}, {origin}")
        if version.experiment == "sandbox":
            console.say("note: it was trained on synthetic voices; its scores of human voices mean nothing")
    if version is champion is not None and candidate is not None and candidate != champion:
        console.say(
            f"note: version {candidate.version} ({console.name(repr(candidate.experiment))}) is newer; "
            f"to use it: --model models:/{VOICE}@{CANDIDATE}"
        )
