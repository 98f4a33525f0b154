"""The model card on the hub: the model's own, with how it is loaded from there and the licence that its owner names."""

from __future__ import annotations

import re
from pathlib import Path

from emonet.checkpoints import check_banks, read_calibration
from emonet.errors import RequestError
from emonet.registry import CARD, EXPERTS, CardFacts, card
from emonet.targets import TargetSpec

UNKNOWN = "other"  # the hub's word for a licence that it has no id for
_LICENCE = re.compile(r"(?m)^license:[ \t]*(.*(?:\n[ \t]*- .*)*)$")  # one, or a list of them
_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_TITLE = re.compile(r"(?m)^# (.+)$")
_LOADING = re.compile(r"(?ms)^## How to load it\n.*?(?=^## |\Z)")
_PATH = re.compile(r"(?<![\w/.])(?:/[\w.@+-]+){2,}")  # of some machine: nobody else has it
_HOW = """## How to load it

```python
from emonet import EmotionPipeline

pipeline = EmotionPipeline.from_pretrained("{name}")
pipeline("interview.wav")
```

Or on the command line:

```bash
emonet predict interview.wav --model hf://{name}
```

"""


def card_of(folder: Path) -> str:
    """The card in a voice model's folder; where there is none, one that says what is not known.

    Raises:
        RequestError: if it cannot be read.
    """
    try:
        return (folder / CARD).read_text("utf-8")
    except FileNotFoundError:
        return card.render(_facts(folder))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError("the model card cannot be read", where=folder / CARD, found=error) from error


def _facts(folder: Path) -> CardFacts:
    """What the files of a model without a card tell: nothing of its training."""
    infos = list(check_banks(folder / EXPERTS).values())
    return CardFacts(
        name="emonet-voice",
        origin="trained",
        targets=TargetSpec(tuple(target for info in infos for target in info.target_spec)),
        window_seconds=infos[0].window_seconds,
        encoder="somewhere that is not known",
        encoder_digest=infos[0].encoder_digest,
        calibration=read_calibration(folder / EXPERTS),
    )


def title_of(text: str) -> str:
    """The model's name, as its card has it."""
    found = _TITLE.search(text)
    return found[1].strip() if found else "emonet-voice"


def licence_of(text: str) -> str | None:
    """The id of the licence that a card names; None where it names none."""
    found = _LICENCE.search(_front_matter(text))
    named = re.split(r"\n[ \t]*- ", found[1]) if found else [UNKNOWN]
    licence = ", ".join(filter(None, (one.strip(" \t\"'") for one in named)))
    return None if licence in ("", UNKNOWN) else licence


def local_paths(text: str) -> list[str]:
    """Absolute paths that a card names."""
    return list(dict.fromkeys(_PATH.findall(_LOADING.sub("", text))))


def hub_card(text: str, name: str, licence: str | None) -> str:
    """The card for a repository.

    Args:
        text: of the model's own card.
        name: `ORG/NAME`.
        licence: its id on the hub; None leaves what the card says.

    Raises:
        RequestError: if that is no id of a licence.
    """
    text = text.replace("\r\n", "\n")
    text = _LOADING.sub(_HOW.format(name=name).replace("\\", r"\\"), text, count=1)
    if licence is None:
        return text
    if not _LICENCE_ID.fullmatch(licence):
        hint = "https://huggingface.co/docs/hub/repositories-licenses has the list"
        raise RequestError("this is no id of a licence", expected="as in cc-by-4.0", found=licence, hint=hint)
    front = _front_matter(text)
    if not front:
        return f"---\nlicense: {licence}\n---\n\n{text}"
    line = f"license: {licence}"
    changed = _LICENCE.sub(line, front, count=1) if _LICENCE.search(front) else f"{front}{line}\n"
    return text.replace(front, changed, 1)


def _front_matter(text: str) -> str:
    """The lines between the first two `---`."""
    found = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    return found[1] if found else ""
