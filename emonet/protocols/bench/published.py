"""The paper's own tables, as it prints them, and which of their figures follow from each other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from importlib import resources
from io import StringIO
from typing import Any, Literal

import pandas as pd

from emonet.evaluation import METRICS, Estimate, MetricName
from emonet.protocols.consensus import PAPER
from emonet.protocols.tables import Cell, Column, ProtocolTable, Row

PublishedName = Literal["table5", "table6", "table7", "table10"]

TABLE7_SIZES: Mapping[str, Mapping[str, int]] = {
    "emodb": {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    },
    "ravdess": dict.fromkeys(("anger", "calm", "disgust", "fear", "happiness", "sadness", "surprise"), 192)
    | {"neutral": 96},
}
"""Corpus of Table 7 -> class, as its columns are headed -> clips (count); RAVDESS has half as many neutral ones."""
_THOUSANDTHS, _TENTHS = 1e-3, 0.1  # by how much a figure and one made of rounded figures may differ
_SLACK = 1e-9  # of floating point


@cache
def printed(name: PublishedName) -> pd.DataFrame:
    """A table of the paper, line by line."""
    text = resources.files("emonet.protocols.bench").joinpath("as_published", f"{name}.csv").read_text("utf-8")
    return pd.read_csv(StringIO(text))


def published_table(name: PublishedName) -> ProtocolTable:
    """A table of the paper as it prints it; Table 5 has the means of Table 6's columns beside its own figures."""
    return {"table5": _table5, "table6": _table6, "table7": _table7, "table10": _table10}[name]()


def _table5() -> ProtocolTable:
    shown: dict[str, MetricName] = {
        "spearman": "spearman",
        "pearson": "pearson",
        "mae_0_10": "mae",
        "rmse_0_10": "rmse",
    }
    by_emotion = printed("table6").set_index("emotion")
    rows = []
    for line in printed("table5").to_dict("records"):
        model = str(line["model"])
        cells: dict[str, Cell] = {metric: float(line[name]) for name, metric in shown.items()}
        cells |= {"model": model, "refused": float(line["refusal_percent"])}
        cells |= {"emotions": int(by_emotion[model].count()), "spearman_mean": float(by_emotion[model].mean())}
        rows.append(Row(cells=cells, kind="published"))
    return ProtocolTable(
        name="table5_published",
        title="Models against raters, as published",
        source=f"{PAPER}, Table 5",
        columns=(
            Column(name="model", label="Model"),
            Column(name="refused", label="Refused (%)", digits=2),
            Column(name="emotions", label="Emotions", about="that the model scores, from Table 6 (count)"),
            *(
                Column(name=metric, label=METRICS[metric].label, better=METRICS[metric].better)
                for metric in shown.values()
            ),
            Column(name="spearman_mean", label="Spearman, mean", better="higher", about="mean of Table 6's column"),
        ),
        rows=tuple(rows),
        notes=(
            "The paper does not say whether Table 5 is over clips or a mean over emotions: its Spearman is the mean of "
            "Table 6 for GPT-4o mini and GPT-4o, and is not for the other five.",
        ),
    )


def _table6() -> ProtocolTable:
    table = printed("table6")
    models = [name for name in table.columns if name not in ("emotion", "average")]
    return ProtocolTable(
        name="table6_published",
        title="Spearman by emotion, as published",
        source=f"{PAPER}, Table 6",
        columns=(
            Column(name="emotion", label="Emotion"),
            *(Column(name=name, label=name, better="higher") for name in [*models, "average"]),
        ),
        rows=tuple(Row(cells=_cells(line), kind="published") for line in table.to_dict("records")),
        notes=("Nothing stands where a model refused all clips of an emotion.",),
    )


def _table7() -> ProtocolTable:
    table = printed("table7")
    classes = [name for name in table.columns if name not in ("model", "corpus")]
    return ProtocolTable(
        name="table7_published",
        title="From synthetic to real, as published",
        source=f"{PAPER}, Table 7",
        columns=(
            Column(name="model", label="Model"),
            Column(name="corpus", label="Corpus"),
            *(Column(name=name, label=name, better="higher", digits=1, about="accuracy (%)") for name in classes),
        ),
        rows=tuple(Row(cells=_cells(line), kind="published") for line in table.to_dict("records")),
        notes=(
            "Zero-shot accuracies are of a lenient rule: a class counts as found if any of its emotions is above a "
            "threshold, whatever else is. Supervised ones are of 80/20 splits.",
        ),
    )


def _table10() -> ProtocolTable:
    rows = []
    for line in printed("table10").to_dict("records"):
        alpha = Estimate(value=line["alpha"], low=line["ci_lower"], high=line["ci_upper"])
        cells: dict[str, Cell] = {"emotion": str(line["emotion"]), "alpha": alpha, "clips": int(line["n_items"])}
        rows.append(Row(cells=cells, kind="published"))
    return ProtocolTable(
        name="table10_published",
        title="Agreement of raters, as published",
        source=f"{PAPER}, Table 10",
        columns=(
            Column(name="emotion", label="Emotion"),
            Column(name="alpha", label="Cronbach's alpha", better="higher", about="1,000 bootstraps"),
            Column(name="clips", label="Clips"),
        ),
        rows=tuple(rows),
    )


def _cells(line: Mapping[Hashable, Any]) -> dict[str, Cell]:
    """A line's cells; an empty one is NaN in pandas, and undefined in a table."""
    return {
        str(name): value if isinstance(value, str) else float(value)
        for name, value in line.items()
        if not pd.isna(value)
    }


def reconciliation() -> ProtocolTable:
    """Every figure of the paper that follows from others that it prints, recomputed; what does not, and why."""
    return ProtocolTable(
        name="reconciliation",
        title="The paper's figures, recomputed from its own tables",
        source=f"{PAPER}, Tables 5, 6, 7 and 10",
        columns=(
            Column(name="table", label="Table"),
            Column(name="figure", label="Figure"),
            Column(name="stated", label="Stated"),
            Column(name="recomputed", label="Recomputed"),
            Column(name="reconciles", label="Reconciles", about="within what rounding explains"),
            Column(name="about", label="Recomputed as"),
        ),
        rows=(*_averages(), *_means(), *_refusals(), *_totals(), *_alphas()),
        notes=(
            "Pearson, MAE and RMSE of Table 5, the alphas of Table 10 and the supervised figures of Table 7 follow "
            "from ratings and answers alone, which are not printed.",
            "The clips of the benchmark are 4.7 thousand, 12,600 and 13 thousand in different places of the paper; "
            "Table 10 has 42 times 300, which is 12,600.",
        ),
    )


def _row(table: str, figure: str, stated: float, recomputed: float, within: float, about: str) -> Row:
    same = abs(stated - recomputed) <= within + _SLACK
    cells: dict[str, Cell] = {"table": table, "figure": figure, "stated": stated, "recomputed": recomputed}
    return Row(cells={**cells, "reconciles": "yes" if same else "no", "about": about}, kind="published")


def _averages() -> list[Row]:
    table = printed("table6").set_index("emotion")
    means = table.drop(columns="average").mean(axis=1)
    return [
        _row("6", f"average of {emotion}", float(table["average"][emotion]), float(means[emotion]), _THOUSANDTHS, about)
        for emotion in table.index
        for about in (f"mean over the {table.drop(columns='average').loc[emotion].count()} models that answered",)
    ]


def _means() -> list[Row]:
    table, by_emotion = printed("table5").set_index("model"), printed("table6")
    return [
        _row(
            "5",
            f"Spearman of {model}",
            float(table["spearman"][model]),
            float(by_emotion[model].mean()),
            _THOUSANDTHS,
            f"mean over the {by_emotion[model].count()} emotions of Table 6 that it answered",
        )
        for model in table.index
    ]


def _refusals() -> list[Row]:
    """What a model refuses is at least what it leaves out in Table 6: 300 clips of each emotion."""
    table, by_emotion = printed("table5").set_index("model"), printed("table6")
    rows = []
    for model in table.index:
        stated, least = float(table["refusal_percent"][model]), 100 * float(by_emotion[model].isna().mean())
        cells: dict[str, Cell] = {"table": "5", "figure": f"refusals of {model} (%)", "stated": stated}
        verdict = {"recomputed": least, "reconciles": "yes" if stated >= least else "no"}
        about = "at least the emotions that it does not answer in Table 6"
        rows.append(Row(cells={**cells, **verdict, "about": about}, kind="published"))
    return rows


def _totals() -> list[Row]:
    """Shares of whole clips, added up."""
    rows = []
    for line in printed("table7").to_dict("records"):
        corpus, sizes = str(line["corpus"]), TABLE7_SIZES[str(line["corpus"])]
        if pd.isna(line["neutral"]):
            continue  # of supervised models only the total is printed
        right = {name: round(line[name] / 100 * size) for name, size in sizes.items()}
        total = 100 * sum(right.values()) / sum(sizes.values())
        about = f"{sum(right.values()):,} of {sum(sizes.values()):,} clips, as the classes' shares are of whole clips"
        rows.append(_row("7", f"overall of {line['model']} on {corpus} (%)", line["overall"], total, _TENTHS, about))
    return rows


def _alphas() -> list[Row]:
    table = printed("table10").set_index("emotion")
    each = table.drop(index="overall")
    alpha = float(each["alpha"].mean())
    return [
        _row(
            "10",
            "clips overall",
            float(table["n_items"]["overall"]),
            float(each["n_items"].sum()),
            0,
            "the 42 together",
        ),
        _row(
            "10",
            "alpha overall",
            float(table["alpha"]["overall"]),
            alpha,
            _THOUSANDTHS,
            "mean over the 42 categories; alpha over all clips is no such mean, and ratings alone would tell it",
        ),
    ]
