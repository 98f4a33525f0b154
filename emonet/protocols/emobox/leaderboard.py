"""EmoBox as published (arXiv 2406.07162): its 32 corpora, its leaderboards, one more encoder among its ten."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from io import StringIO

import pandas as pd

from emonet.errors import RequestError
from emonet.evaluation import CLASS_METRICS, ClassMetricName, Estimate
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

EMOBOX = "EmoBox, arXiv 2406.07162"
PER_CENT = 100.0
_PUBLISHED: dict[ClassMetricName, str] = {"ua": "UA", "wa": "WA", "macro_f1": "F1"}
_ABOUT: dict[ClassMetricName, str] = {
    "ua": "Unweighted accuracy: mean recall over the classes (%).",
    "wa": "Weighted accuracy: share of the clips that are right (%).",
    "macro_f1": "Mean over the classes of F1 (%).",
}
FIGURES = tuple(
    Column(name=name, label=f"{label} %", better="higher", digits=2, about=_ABOUT[name])
    for name, label in CLASS_METRICS.items()
)
"""Columns of UA, WA and macro F1 in per cent, as EmoBox prints them."""


@cache
def _read(name: str) -> pd.DataFrame:
    text = resources.files("emonet.protocols.emobox").joinpath("as_published", f"{name}.csv").read_text("utf-8")
    return pd.read_csv(StringIO(text))


def corpora_table() -> ProtocolTable:
    """The 32 corpora of EmoBox: what each holds, under which licence, and where it is."""
    columns = (
        Column(name="name", label="corpus", about="As the leaderboard calls it."),
        Column(name="key", label="folder", about="Of EmoBox's metadata and folds: emobox:data/FOLDER."),
        Column(name="language", label="language"),
        Column(name="source", label="speech", about="How the emotions came about: acted, or found in media."),
        Column(name="emotions", label="emotions", about="As EmoBox counts them (count)."),
        Column(name="classes", label="classes", about="Of EmoBox's label map."),
        Column(name="speakers", label="speakers", about="Different speakers (count)."),
        Column(name="clips", label="clips", about="Utterances (count)."),
        Column(name="hours", label="hours", digits=1, about="Length of all clips (hours)."),
        Column(name="folds", label="folds", about="Of EmoBox's (count); 1 is a single split."),
        Column(name="licence", label="licence", about="Of the audio, where it is known; ask the source before use."),
        Column(name="licence_from", label="licence read in", about="Where the licence was read."),
        Column(name="url", label="source", about="Where EmoBox says that the audio is."),
    )
    rows = []
    for line in _read("corpora").to_dict("records"):
        cells: dict[str, Cell] = {str(name): value for name, value in line.items() if not pd.isna(value)}
        if "speakers" in cells:
            cells["speakers"] = int(line["speakers"])  # one corpus does not say
        rows.append(Row(cells=cells, kind="published"))
    unknown = [str(row.cells["name"]) for row in rows if "licence" not in row.cells]
    return ProtocolTable(
        name="emobox_corpora",
        title="The corpora of EmoBox",
        source=f"{EMOBOX}, Table 1; emo-box/EmoBox at 08280f27 (MIT)",
        columns=columns,
        rows=tuple(rows),
        notes=(
            f"no licence was found for {len(unknown)} of them: {', '.join(unknown)}",
            "no audio is shipped, and none is fetched: each corpus comes from its own source, some by a signed form",
            "emotions and classes differ where EmoBox merges labels (IEMOCAP) or leaves some out (ASVP-ESD, JL-Corpus)",
        ),
    )


def leaderboard_corpora() -> tuple[str, ...]:
    """The corpora that the leaderboard has figures of, by name."""
    return tuple(dict.fromkeys(_read("leaderboard")["corpus"].tolist()))


def leaderboard(corpus: str) -> ProtocolTable:
    """The ten encoders on one corpus, best UA first.

    Args:
        corpus: its name or folder, such as `RAVDESS` or `ravdess`.

    Raises:
        RequestError: if EmoBox has no such corpus.
    """
    return _table(_known(corpus), [])


def ranked(
    corpus: str,
    name: str,
    figures: Mapping[ClassMetricName, Estimate | float],
    *,
    optimistic: Mapping[ClassMetricName, Estimate | float] | None = None,
) -> ProtocolTable:
    """One more encoder among the ten of a corpus.

    Args:
        corpus: its name or folder.
        name: of the encoder.
        figures: UA, WA and macro F1 (0 to 1): means over EmoBox's folds, since that is what it prints.
        optimistic: the same where the epoch was chosen on test clips; it is shown, but has no rank.

    Raises:
        RequestError: if EmoBox has no such corpus, or a figure is no share.
    """
    known = _known(corpus)
    rows = [Row(cells={"model": name, **_per_cent(figures)})]
    if optimistic is not None:
        rows.append(Row(cells={"model": f"{name}, epoch chosen on test", **_per_cent(optimistic)}, kind="optimistic"))
    return _table(known, rows)


def cross_corpus_leaderboard() -> ProtocolTable:
    """EmoBox's cross-corpus UA: trained on one of four corpora, tested on balanced clips of another."""
    names = {"I": "IEMOCAP", "M": "MELD", "R": "RAVDESS", "S": "SAVEE"}
    found = _read("cross_corpus")
    pairs = [name for name in found.columns if name != "Model"]
    columns = [
        Column(
            name=pair,
            label=pair.replace("->", " → "),
            better="higher",
            digits=2,
            about=f"UA, trained on {names[pair[0]]}, tested on {names[pair[-1]]} (%).",
        )
        for pair in pairs
    ]
    rows = [
        Row(cells={"model": str(line["Model"]), **{pair: float(line[pair]) for pair in pairs}}, kind="published")
        for line in found.to_dict("records")
    ]
    return ProtocolTable(
        name="emobox_cross_published",
        title="Trained on one corpus, tested on another: UA of EmoBox's encoders",
        source=f"{EMOBOX}, cross-corpus leaderboard",
        columns=(Column(name="model", label="encoder"), *columns),
        rows=tuple(rows),
        notes=("wav2vec 2.0 base is missing at the source", "four classes, 60 test clips of each"),
    )


def _known(corpus: str) -> str:
    """The leaderboard's name of a corpus."""
    facts = _read("corpora")
    for name, key in zip(facts["name"].tolist(), facts["key"].tolist(), strict=True):
        if corpus.casefold() in {name.casefold(), key}:
            return str(name)
    raise RequestError(
        "EmoBox has no such corpus",
        expected=", ".join(leaderboard_corpora()),
        found=corpus,
        hint="emonet benchmark corpora",
    )


def _table(corpus: str, added: list[Row]) -> ProtocolTable:
    lines = _read("leaderboard")
    lines = lines[lines["corpus"] == corpus]
    published = [
        Row(
            cells={"model": str(line["model"]), **{name: float(line[key]) for name, key in _PUBLISHED.items()}},
            kind="published",
        )
        for line in lines.to_dict("records")
    ]
    rows = sorted([*published, *added], key=lambda row: -(_value(row) or 0.0))
    competing = [value for row in rows if row.kind != "optimistic" and (value := _value(row)) is not None]
    placed = []
    for row in rows:
        value = _value(row)
        has = row.kind != "optimistic" and value is not None
        rank = 1 + sum(other > value for other in competing) if has and value is not None else None
        placed.append(Row(cells={"rank": rank, **row.cells}, kind=row.kind))
    corrected = [
        f"{line['model']}: {line['note']}" for line in lines.to_dict("records") if not pd.isna(line.get("note"))
    ]
    notes = ["by UA; which epoch the published figures are of is said nowhere", *corrected]
    if added:
        notes.append("intervals are over speakers; published figures come without")
    return ProtocolTable(
        name="emobox_rank",
        compete=True,
        title=f"Frozen encoders on {corpus}",
        source=f"{EMOBOX}, intra-corpus leaderboard",
        columns=(
            Column(name="rank", label="rank", about="By UA among encoders whose epoch was not chosen on test here."),
            Column(name="model", label="encoder"),
            *FIGURES,
        ),
        rows=tuple(placed),
        notes=tuple(notes),
    )


def _value(row: Row) -> float | None:
    cell = row.cells.get("ua")
    value = cell.value if isinstance(cell, Estimate) else cell
    return float(value) if isinstance(value, int | float) else None


def _per_cent(figures: Mapping[ClassMetricName, Estimate | float]) -> dict[str, Cell]:
    return {name: per_cent(figure) for name, figure in figures.items()}


def per_cent(figure: Estimate | float) -> Estimate | float:
    """A share in per cent, as EmoBox prints it.

    Raises:
        RequestError: if it is no share.
    """
    value = figure.value if isinstance(figure, Estimate) else figure
    if value is not None and not 0 <= value <= 1:
        raise RequestError("a figure is no share", expected="0 to 1", found=value)
    if not isinstance(figure, Estimate):
        return PER_CENT * figure
    ends = {end: None if (one := getattr(figure, end)) is None else PER_CENT * one for end in ("value", "low", "high")}
    return Estimate(**ends)
