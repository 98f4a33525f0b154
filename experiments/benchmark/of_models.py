"""Protocols of models that score clips: EmoNet-Voice Bench, label variance, sim-to-real, robustness, fairness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from emonet.audio import open_perturbations
from emonet.clips import Clip, Corpus
from emonet.encoders import file_digest
from emonet.errors import RequestError, shortened
from emonet.protocols import (
    JUDGED,
    Answers,
    Bench,
    Column,
    Consensus,
    ProtocolTable,
    Ratings,
    Truth,
    against_agreement,
    against_arousal,
    against_figure,
    agree,
    agreement_of,
    arousal_of,
    class_distributions,
    consensus_table,
    correlates_figure,
    correlates_table,
    discrimination,
    distribution_table,
    emotion_points,
    fairness_figure,
    fairness_tables,
    figure1,
    figure1_figure,
    grade_distributions,
    hear,
    judge_models,
    measure,
    open_mapping,
    predicted_distributions,
    published_table,
    random_scores,
    read_bench,
    read_groupings,
    read_ratings,
    reconciliation,
    robustness_figure,
    robustness_table,
    rules_table,
    score_conditions,
    sensitivity_figure,
    sensitivity_table,
    sim_to_real_classes_table,
    sim_to_real_table,
    sound_properties,
    table5,
    table6,
    table6_figure,
    table9,
    table10,
    usual_groupings,
    write_bench_sample,
)
from emonet.targets import EMOTIONS, TargetSpec, open_targets
from experiments.benchmark.context import Context, Prepared, contents_of
from experiments.benchmark.models import OpenModel
from experiments.benchmark.parts import Draft
from experiments.benchmark.plan import (
    SAMPLE,
    BenchEntry,
    FairnessEntry,
    RatersEntry,
    RobustnessEntry,
    SimToRealEntry,
    key_of,
)

_MODEL = Column(name="model", label="Model")
_RANDOM = "random scores"  # a row that has heard nothing
_USUAL = ("white_noise:10", "babble:10", "reverberation:0.6", "telephone:8000", "mp3:32", "gain:-20", "speed:1.25")


def bench(entry: BenchEntry, context: Context) -> Prepared:
    """Tables 5, 6, 9 and 10 and Figure 1 of EmoNet-Voice, beside the paper's own."""
    path = _file(entry.data, "EmoNet-Voice Bench", context)
    models = context.models() if context.plan.models else ()

    def run(draft: Draft) -> None:
        data = read_bench(path)
        _raters(draft, data.ratings, context.plan.seed)
        if models:
            truth = agree(data.ratings, entry.rule)
            _judge(draft, data, truth, context)
        draft.add(*(published_table(name) for name in ("table5", "table6", "table7", "table10")), reconciliation())

    return Prepared([_content(path), [model.shown for model in models]], run)


def _file(data: str, what: str, context: Context) -> Path:
    """The file or folder of a plan's data; the sample is made.

    Raises:
        RequestError: if it is not there.
    """
    if data == SAMPLE:
        path = context.folder / "bench-sample.parquet"
        if not path.is_file():
            context.folder.mkdir(parents=True, exist_ok=True)
            write_bench_sample(path)
        return path
    path = Path(data).expanduser()
    if not path.exists():
        raise RequestError(
            f"{what} is not there",
            where=path,
            hint=f"docs/benchmark-bench.md says where to get the Bench; {SAMPLE!r} in its place makes a small one",
        )
    return path


def _raters(draft: Draft, ratings: Ratings, seed: int) -> None:
    drawn, alphas = figure1(ratings), table10(ratings, seed=seed)
    draft.add(consensus_table(ratings), table9(ratings), alphas, drawn)
    draft.draw("figure1", "How the raters of each emotion's clips agree.", partial(figure1_figure, drawn))


def _judge(draft: Draft, data: Bench, truth: Consensus, context: Context) -> None:
    config, seed = context.plan.evaluation, context.plan.seed
    kept = set(truth.clips)
    rated = [clip for clip in data.clips if clip.id in kept]
    answers = {
        model.label: Answers(context.scores(model, rated, "EmoNet-Voice Bench"), model.scorer.target_spec)
        for model in context.models()
    }
    judged = judge_models(truth, answers, config=config, seed=seed)
    by_emotion, alphas = table6(judged, truth), table10(data.ratings, seed=seed)
    draft.add(
        table5(judged, truth),
        by_emotion,
        against_agreement(by_emotion, alphas, config=config, seed=seed),
        against_arousal(by_emotion, config=config, seed=seed),
    )
    if {"sadness", "distress"} <= set(data.ratings.targets):
        draft.add(discrimination(truth, answers, config=config, seed=seed))
    draft.draw("table6", "Spearman correlation by emotion and model.", partial(table6_figure, by_emotion))
    agreement = "Agreement of the raters (Cronbach's alpha)"
    for name, label, values in (
        ("agreement", agreement, agreement_of(alphas)),
        ("arousal", "Arousal of the emotion", arousal_of()),
    ):
        points = emotion_points(by_emotion, values)
        draft.draw(
            name, f"{label} against the models' mean figure.", partial(against_figure, points, x=label, y="Spearman")
        )


def raters(entry: RatersEntry, context: Context) -> Prepared:
    """Distributions of judgements, what each rule keeps, and models that predict distributions."""
    path = _file(entry.ratings, "the table of ratings", context)
    targets = open_targets(entry.targets)
    models = context.models() if context.plan.models and _is_bench(path) else ()

    def run(draft: Draft) -> None:
        ratings, clips = _ratings(path, targets)
        of_classes, empty = class_distributions(ratings.only(ratings.emotions).table)
        grades = {
            target: grade_distributions(ratings.table, target, grades=ratings.scale) for target in ratings.targets
        }
        draft.add(rules_table({"strongest emotion": of_classes, **grades}))
        if not models:
            return
        of_them = set(of_classes.clips)
        heard = [clip for clip in clips if clip.id in of_them]
        predicted, notes = {}, [f"{len(empty):,} clips without a present emotion are left out"] * bool(empty)
        for model in models:
            if lacking := sorted(set(of_classes.classes) - set(model.scorer.target_spec.ids)):
                notes.append(f"{model.label} does not score {shortened(lacking, 3)}: it predicts no distribution")
                continue
            scored = context.scores(model, heard, key_of(entry))
            names, shares = predicted_distributions(scored, of_classes.classes, spec=model.scorer.target_spec)
            predicted[model.label] = (names, shares)
        if not predicted:
            draft.tables[-1] = draft.tables[-1].with_notes(*notes)
            return
        common = [name for name in of_classes.clips if all(name in names for names, _ in predicted.values())]
        kept = {label: shares[[names.index(name) for name in common]] for label, (names, shares) in predicted.items()}
        speakers = {clip.id: clip.speaker for clip in heard}
        draft.add(
            distribution_table(
                of_classes.of(common),
                kept,
                speakers=[speakers[name] for name in common],
                config=context.plan.evaluation,
                seed=context.plan.seed,
                notes=notes,
            )
        )

    return Prepared([_content(path), targets.to_json(), [model.shown for model in models]], run)


def sim_to_real(entry: SimToRealEntry, context: Context) -> Prepared:
    """Tables 7 and 11: do emotions name an acted corpus' classes; the lenient rule with its price."""
    corpus, mapping, key = context.corpus(entry.corpus), open_mapping(entry.mapping), key_of(entry)
    models = context.models()
    clips, notes = context.clips(corpus, entry.split)

    def run(draft: Draft) -> None:
        config, seed = context.plan.evaluation, context.plan.seed
        suited, unsuited = _suited(models, lambda spec: bool(set(spec.ids) & set(mapping.emotions)))
        heard = {
            model.label: hear(context.scores(model, clips, key), clips, mapping, spec=model.scorer.target_spec)
            for model in suited
        }
        spec = EMOTIONS.subset(mapping.emotions)
        heard[_RANDOM] = hear(random_scores(clips, spec, seed), clips, mapping, spec=spec)
        results = {label: measure(one, config, seed=seed) for label, one in heard.items()}
        sensitivity = sensitivity_table(heard, config, seed=seed)
        draft.add(
            sim_to_real_table(results, mapping).called(key).with_notes(*notes, *unsuited),
            sim_to_real_classes_table(results, mapping).called(f"{key}_classes"),
            sensitivity.called(f"{key}_sensitivity"),
        )
        first = suited[0].label
        text = f"What the lenient rule's figures hang on: its threshold and the softmax' scale, {first}."
        draft.draw("sensitivity", text, partial(sensitivity_figure, sensitivity, first))

    fixed = [[clip.id for clip in clips], contents_of(corpus), mapping.name, dict(mapping.classes)]
    return Prepared([*fixed, [model.shown for model in models]], run)


def robustness(entry: RobustnessEntry, context: Context) -> Prepared:
    """How far each model's figures fall by perturbation."""
    perturbations = open_perturbations(entry.perturbations or _USUAL)
    corpus, models = context.corpus(entry.corpus, entry.targets), context.models()
    clips, notes = context.clips(corpus, entry.split, entry.clips)

    def run(draft: Draft) -> None:
        suited, unsuited = _suited(models, lambda spec: _has_truth(clips, spec, corpus))
        tables: dict[str, ProtocolTable] = {}
        for model in suited:
            truth = Truth.of(clips, model.scorer.target_spec, corpus.classes)
            with context.progress(f"{model.label}: perturbed clips") as progress:
                scored = score_conditions(
                    model.scorer,
                    clips,
                    perturbations,
                    model=model.identity,
                    folder=context.scores_folder(model),
                    seed=context.plan.seed,
                    progress=progress,
                )
            table = robustness_table(
                scored,
                clips,
                truth,
                metrics=entry.metrics,
                evaluation=context.plan.evaluation,
                seed=context.plan.seed,
            )
            tables[model.label] = table
            metric = truth.check(entry.metrics)[0]
            draft.draw(
                f"robustness-{len(draft.pictures)}",
                f"{JUDGED[metric].label} of {model.label} by perturbation and level.",
                partial(robustness_figure, table, metric),
            )
        draft.add(ProtocolTable.joined(tables, _MODEL).with_notes(*notes, *unsuited))

    return Prepared([[clip.id for clip in clips], contents_of(corpus), [model.shown for model in models]], run)


def fairness(entry: FairnessEntry, context: Context) -> Prepared:
    """Each model's figures by group, gaps between groups, and what errors go along with."""
    corpus, models = context.corpus(entry.corpus, entry.targets), context.models()
    clips, notes = context.clips(corpus, entry.split, entry.clips)
    table = None if entry.groups is None else entry.groups.expanduser()
    own = [] if table is None else list(read_groupings(table, clips))
    groupings = [*usual_groupings(clips), *own]

    def run(draft: Draft) -> None:
        config, seed = context.plan.evaluation, context.plan.seed
        with context.progress("listening for level and noise") as progress:
            properties = sound_properties(clips, progress=progress)
        suited, unsuited = _suited(models, lambda spec: _has_truth(clips, spec, corpus))
        every: dict[str, tuple[ProtocolTable, ...]] = {}
        for model in suited:
            truth = Truth.of(clips, model.scorer.target_spec, corpus.classes)
            scored = context.scores(model, clips, key_of(entry))
            tables = fairness_tables(
                scored, clips, truth, groupings, metrics=entry.metrics, evaluation=config, seed=seed
            )
            correlates = correlates_table(scored, clips, truth, properties, evaluation=config, seed=seed)
            every[model.label] = (*tables, correlates)
            metric = truth.check(entry.metrics)[0]
            draft.draw(
                f"fairness-{len(draft.pictures)}",
                f"{JUDGED[metric].label} of {model.label} by group.",
                partial(fairness_figure, tables[0], metric),
            )
            draft.draw(
                f"errors-{len(draft.pictures)}",
                f"Error of {model.label} by level, noise and length.",
                partial(correlates_figure, scored, clips, truth, properties),
            )
        alike = zip(*every.values(), strict=True)
        joined = [ProtocolTable.joined(dict(zip(every, some, strict=True)), _MODEL) for some in alike]
        draft.add(joined[0].with_notes(*notes, *unsuited), *joined[1:])

    groups = None if table is None else file_digest(table)
    return Prepared([[clip.id for clip in clips], contents_of(corpus), groups, [m.shown for m in models]], run)


def _suited(
    models: Sequence[OpenModel], suits: Callable[[TargetSpec], bool]
) -> tuple[tuple[OpenModel, ...], tuple[str, ...]]:
    """The models whose targets this is about, and a note for each other one.

    Raises:
        RequestError: if there is none.
    """
    suited = tuple(model for model in models if suits(model.scorer.target_spec))
    notes = tuple(f"{model.label} scores nothing that this is about" for model in models if model not in suited)
    if not suited:
        raise RequestError("no model scores anything that this is about", found="; ".join(notes))
    return suited, notes


def _has_truth(clips: Sequence[Clip], spec: TargetSpec, corpus: Corpus) -> bool:
    try:
        Truth.of(clips, spec, corpus.classes)
    except RequestError:
        return False
    return True


def _ratings(path: Path, targets: TargetSpec) -> tuple[Ratings, tuple[Clip, ...]]:
    """Ratings, and the clips that were rated where the file has them."""
    if _is_bench(path):
        data = read_bench(path)
        return data.ratings, data.clips
    return read_ratings(path, targets), ()


def _is_bench(path: Path) -> bool:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    if path.is_dir():
        return True
    try:
        return path.suffix == ".parquet" and {"audioId", "label"} <= set(read_schema(path).names)
    except (OSError, ArrowException):
        return False  # told by whoever reads it


def _content(path: Path) -> Any:
    """What is in a file, or in the Parquet files of a folder."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return [[file.name, file_digest(file)] for file in files]
