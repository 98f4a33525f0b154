"""Tables and figure of sim-to-real: table 7 with its published rows, each class, and what hangs on the threshold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from emonet.configs import EvaluationConfig
from emonet.evaluation import ACCENT, COLOURS, DPI, FAINT, INK, Estimate
from emonet.protocols.bench.published import TABLE7_SIZES, printed
from emonet.protocols.sim_to_real.hearing import FACTOR, SPAN, Heard, SimToReal, lenient
from emonet.protocols.sim_to_real.mappings import SHIPPED, ClassMapping
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

FACTORS = (0.5, 1.0, 1.25, FACTOR, 1.75, 2.0, 3.0, 5.0)
SPANS = (1.0, SPAN, 10.0)
"""Scales of the softmax that are tried: shares of the scale, the published experts' own, that of EmoNet-Voice Bench."""

_LABELS = {"anger": "angry", "fear": "fearful", "happiness": "happy", "sadness": "sad", "surprise": "surprised"}
_HEADS: Mapping[str, Mapping[str, str]] = {
    corpus: {_LABELS.get(head, head) if corpus == "ravdess" else head: head for head in sizes}
    for corpus, sizes in TABLE7_SIZES.items()
}
"""Corpus -> class, as the corpus labels it -> head of its column in table 7."""
CLASS_SIZES: Mapping[str, Mapping[str, int]] = {
    corpus: {label: TABLE7_SIZES[corpus][head] for label, head in heads.items()} for corpus, heads in _HEADS.items()
}
"""Corpus -> class, as the corpus labels it -> clips (count)."""

_SOURCE = "EmoNet-Voice (arXiv 2506.09827), tables 7 and 11"


def sim_to_real_table(results: Mapping[str, SimToReal], mapping: ClassMapping) -> ProtocolTable:
    """Table 7 of one corpus: the published rows, then the models measured here.

    Args:
        results: by model.
        mapping: of the corpus.
    """
    columns = (
        Column(name="model", label="Model"),
        *(_percent(_recall(name), name, f"recall of {name} by the lenient rule (%)") for name in mapping.classes),
        _percent("overall", "Overall", "recall by the lenient rule, classes weighted by their sizes (%)"),
        _percent("chance", "By chance", "the same if calls had nothing to do with the clips (%)", None),
        _percent("precision", "Precision", "of the classes that the lenient rule calls present, those that are (%)"),
        Column(name="per_clip", label="Called", digits=2, about="classes called present in a clip (mean)"),
        _percent("top1", "Top-1, WA", "clips whose strongest emotion is of their class (%)"),
        _percent("ua", "UA", "mean over the classes of their share of such clips (%)"),
        _percent("macro_f1", "macro F1", "mean over the classes of F1 (%)"),
        Column(name="clips", label="Clips", about="with a class and scores (count)"),
    )
    published = published_rows(mapping.name) if mapping.source == SHIPPED.get(mapping.name) else ()
    notes = [
        f"{len(mapping.emotions)} emotions stand for {len(mapping.classes)} classes ({mapping.source})",
        *(
            _recomputed(row, mapping.name)
            for row in published
            if all(_recall(name) in row.cells for name in mapping.classes)
        ),
        *_told(results, "notes"),
    ]
    return ProtocolTable(
        name=f"sim_to_real_{mapping.name}",
        compete=True,
        title=f"Sim-to-real: classes of {mapping.name} from scores of emotions",
        source=_SOURCE,
        columns=columns,
        rows=(*published, *(Row(cells=_cells(model, result)) for model, result in results.items())),
        notes=tuple(notes),
    )


def sim_to_real_classes_table(results: Mapping[str, SimToReal], mapping: ClassMapping) -> ProtocolTable:
    """Class by class: the lenient rule with its price, and the class of the strongest emotion.

    Args:
        results: by model.
        mapping: of the corpus.
    """
    columns = (
        Column(name="model", label="Model"),
        Column(name="class", label="Class"),
        Column(name="clips", label="Clips", about="of the class (count)"),
        _percent("recall", "Lenient recall", "of its clips, those it is called in (%)"),
        _percent("chance", "By chance", "of all clips, those it is called in (%)", None),
        _percent("precision", "Lenient precision", "of the clips it is called in, those that are of it (%)"),
        _percent("false_alarms", "False alarms", "of the other clips, those it is called in (%)", "lower"),
        _percent("top1_recall", "Top-1 recall", "of its clips, those whose strongest emotion is of it (%)"),
        _percent("top1_precision", "Top-1 precision", "of the clips with its emotion on top, those of it (%)"),
    )
    names = [column.name for column in columns[3:]]
    rows = tuple(
        Row(
            cells={"model": model, "class": name, "clips": one.clips}
            | {key: _hundred(getattr(one, key)) for key in names}
        )
        for model, result in results.items()
        for name, one in result.classes.items()
    )
    title = f"Sim-to-real on {mapping.name}, class by class"
    name = f"sim_to_real_{mapping.name}_classes"
    return ProtocolTable(
        name=name, title=title, source=_SOURCE, columns=columns, rows=rows, notes=_told(results, "notes")
    )


def sensitivity_table(
    models: Mapping[str, Heard],
    config: EvaluationConfig,
    *,
    factors: Sequence[float] = FACTORS,
    spans: Sequence[float] = SPANS,
    seed: int = 0,
) -> ProtocolTable:
    """How much the lenient rule's figures hang on its threshold, and on the scale of the softmax.

    Args:
        models: mapped emotions of each, on the same corpus; one at least.
        config: resamples and coverage.
        factors: of the threshold; the paper's is 1.5.
        spans: what a score at the upper end of its scale becomes.
        seed: of the resamples.
    """
    columns = (
        Column(name="model", label="Model"),
        Column(name="span", label="Scale", digits=0, about="scores reach from 0 to this before the softmax"),
        Column(name="factor", label="Factor", digits=2, about="of the threshold factor / n"),
        _percent("overall", "Overall", "recall by the lenient rule, classes weighted by their sizes (%)"),
        _percent("chance", "By chance", "the same if calls had nothing to do with the clips (%)", None),
        _percent("precision", "Precision", "of the calls, those that are right (%)"),
        Column(name="per_clip", label="Called", digits=2, about="classes called present in a clip (mean)"),
    )
    rows = []
    for (model, heard), span, factor in itertools.product(models.items(), spans, factors):
        one = lenient(heard, config, factor=factor, span=span, seed=seed)
        cells: dict[str, Cell] = {"model": model, "span": span, "factor": factor, "per_clip": one.per_clip}
        cells |= {key: _hundred(getattr(one, key)) for key in ("overall", "chance", "precision")}
        rows.append(Row(cells=cells))
    corpus = next(iter(models.values())).mapping.name
    silence = "the paper's factor is 1.5; it does not say which scale the softmax is taken on"
    return ProtocolTable(
        name=f"sim_to_real_{corpus}_sensitivity",
        title=f"The lenient rule on {corpus} by its threshold",
        source=_SOURCE,
        columns=columns,
        rows=tuple(rows),
        notes=(silence, *_told(models, "told")),
    )


def sensitivity_figure(table: ProtocolTable, model: str, path: Path | BytesIO) -> None:
    """Recall, what chance gives, and precision over the threshold's factor, a panel for each scale of the softmax.

    Args:
        table: as `sensitivity_table` makes it.
        model: which of its models is drawn.
        path: of the picture.
    """
    drawn = [row for row in table.rows if row.cells["model"] == model]
    spans = list(dict.fromkeys(_value(row.cells["span"]) for row in drawn))
    figure = Figure(figsize=(2.8 * len(spans) + 0.8, 3.0), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(spans), sharey=True))
    lines = (("overall", ACCENT, "recall"), ("chance", FAINT, "by chance"), ("precision", COLOURS[1], "precision"))
    for axis, span in zip(axes, spans, strict=True):
        rows = [row for row in drawn if _value(row.cells["span"]) == span]
        factors = [_value(row.cells["factor"]) for row in rows]
        for name, colour, label in lines:
            values = np.array([_value(row.cells.get(name)) for row in rows])
            axis.plot(factors, values, "o-", color=colour, markersize=3, linewidth=1.2, label=label)
        axis.axvline(FACTOR, color=FAINT, linewidth=0.8, linestyle=":")
        axis.set_title(f"scores 0 to {span:g}", fontsize=9, color=INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
        axis.set_ylim(0, 102)
    figure.supxlabel("factor of the threshold (dotted: the paper's)", fontsize=9, color=INK)
    figure.supylabel("%", fontsize=9, color=INK)
    axes[-1].legend(fontsize=8, frameon=False)
    figure.savefig(path)


def published_rows(corpus: str) -> tuple[Row, ...]:
    """Rows of table 7 on a corpus, in per cent; none for a corpus that it does not have."""
    heads = {_recall(label): head for label, head in _HEADS.get(corpus, {}).items()} | {"overall": "overall"}
    table = printed("table7")
    rows = []
    for line in table[table["corpus"] == corpus].to_dict("records"):
        figures = {key: float(line[head]) for key, head in heads.items() if not np.isnan(line[head])}
        rows.append(Row(cells={"model": str(line["model"]), **figures}, kind="published"))
    return tuple(rows)


def weighted_total(percent: Mapping[str, float], sizes: Mapping[str, int]) -> float:
    """Mean of the classes' figures weighted by their sizes: how table 7 comes to its last column.

    Args:
        percent: by class.
        sizes: clips of each class (count).
    """
    return sum(percent[name] * size for name, size in sizes.items()) / sum(sizes.values())


def _told(models: Mapping[str, SimToReal] | Mapping[str, Heard], field: str) -> tuple[str, ...]:
    return tuple(f"{model}: {note}" for model, one in models.items() for note in getattr(one, field))


def _recomputed(row: Row, corpus: str) -> str:
    sizes = CLASS_SIZES[corpus]
    total = weighted_total({name: _value(row.cells[_recall(name)]) for name in sizes}, sizes)
    return (
        f"{row.cells['model']}: its classes weighted by {sum(sizes.values()):,} clips give {total:.2f}; "
        f"the table says {_value(row.cells['overall']):.1f}"
    )


def _cells(model: str, result: SimToReal) -> dict[str, Cell]:
    rule, top1 = result.lenient, result.top1
    return {
        "model": model,
        **{_recall(name): _hundred(one.recall) for name, one in result.classes.items()},
        **{key: _hundred(getattr(rule, key)) for key in ("overall", "chance", "precision")},
        "per_clip": rule.per_clip,
        "top1": _hundred(top1.wa),
        "ua": _hundred(top1.ua),
        "macro_f1": _hundred(top1.macro_f1),
        "clips": top1.clips,
    }


def _recall(name: str) -> str:
    """The key of a class' column; a class may be called what another column is."""
    return f"recall/{name}"


def _percent(name: str, label: str, about: str, better: str | None = "higher") -> Column:
    return Column.model_validate({"name": name, "label": label, "better": better, "digits": 1, "about": about})


def _hundred(one: Estimate) -> Estimate:
    value, low, high = (None if end is None else 100 * end for end in (one.value, one.low, one.high))
    return Estimate(value=value, low=low, high=high)


def _value(cell: Cell) -> float:
    figure = cell.value if isinstance(cell, Estimate) else cell
    return float(figure) if isinstance(figure, int | float) else float("nan")
