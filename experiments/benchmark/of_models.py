"""Protocols of models that score clips: EmoNet-Voice Bench, sim-to-real, robustness, fairness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from emonet.audio import Perturbation, open_perturbations
from emonet.clips import Clip, Corpus
from emonet.encoders import file_digest
from emonet.errors import RequestError
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
    consensus_table,
    correlates_figure,
    correlates_table,
    discrimination,
    emotion_points,
    fairness_figure,
    fairness_tables,
    figure1,
    figure1_figure,
    hear,
    judge_models,
    measure,
    open_mapping,
    published_table,
    random_scores,
    read_bench,
    read_groupings,
    reconciliation,
    robustness_figure,
    robustness_table,
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
)
from emonet.targets import EMOTIONS, TargetSpec
from experiments.benchmark.context import Context, Prepared, Scoring, contents_of
from experiments.benchmark.files import content_of, data_file
from experiments.benchmark.models import OpenModel
from experiments.benchmark.parts import Draft
from experiments.benchmark.plan import (
    BenchEntry,
    FairnessEntry,
    RobustnessEntry,
    SimToRealEntry,
    key_of,
)

_MODEL = Column(name="model", label="Model")
_RANDOM = "random scores"  # a row that has heard nothing
_USUAL = ("white_noise:10", "babble:10", "reverberation:0.6", "telephone:8000", "mp3:32", "gain:-20", "speed:1.25")


def bench(entry: BenchEntry, context: Context) -> Prepared:
    """Tables 5, 6, 9 and 10 and Figure 1 of EmoNet-Voice, beside the paper's own."""
    path = data_file(entry.data, "EmoNet-Voice Bench", context)
    models = context.models(needed=False)

    def scorings() -> list[Scoring]:
        data = read_bench(path)
        rated = _rated(data, agree(data.ratings, entry.rule))
        return [Scoring(model, rated) for model in models]

    def run(draft: Draft) -> None:
        data = read_bench(path)
        _raters(draft, data.ratings, context.plan.seed)
        if models:
            truth = agree(data.ratings, entry.rule)
            _judge(draft, data, truth, context)
        draft.add(*(published_table(name) for name in ("table5", "table6", "table7", "table10")), reconciliation())

    return Prepared([content_of(path), [model.shown for model in models]], run, scorings)


def _raters(draft: Draft, ratings: Ratings, seed: int) -> None:
    drawn, alphas = figure1(ratings), table10(ratings, seed=seed)
    draft.add(consensus_table(ratings), table9(ratings), alphas, drawn)
    draft.draw("figure1", "How the raters of each emotion's clips agree.", partial(figure1_figure, drawn))


def _rated(data: Bench, truth: Consensus) -> list[Clip]:
    """The clips that models are judged on."""
    kept = set(truth.clips)
    return [clip for clip in data.clips if clip.id in kept]


def _judge(draft: Draft, data: Bench, truth: Consensus, context: Context) -> None:
    config, seed = context.plan.evaluation, context.plan.seed
    rated = _rated(data, truth)
    answers = {
        model.label: Answers(context.scores(model, rated, "EmoNet-Voice Bench"), model.scorer.target_spec)
        for model in context.models(needed=False)
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


def sim_to_real(entry: SimToRealEntry, context: Context) -> Prepared:
    """Tables 7 and 11: do emotions name an acted corpus' classes; the lenient rule with its price."""
    corpus, mapping, key = context.corpus(entry.corpus), open_mapping(entry.mapping), key_of(entry)
    models = context.models()
    clips, notes = context.clips(corpus, entry.split)

    def suits(spec: TargetSpec) -> bool:
        return bool(set(spec.ids) & set(mapping.emotions))

    def run(draft: Draft) -> None:
        config, seed = context.plan.evaluation, context.plan.seed
        suited, unsuited = _suited(models, suits)
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
    return Prepared([*fixed, [model.shown for model in models]], run, _scorings(models, suits, clips))


def robustness(entry: RobustnessEntry, context: Context) -> Prepared:
    """How far each model's figures fall by perturbation."""
    perturbations = open_perturbations(entry.perturbations or _USUAL)
    corpus, models = context.corpus(entry.corpus, entry.targets), context.models()
    clips, notes = context.clips(corpus, entry.split, entry.clips)
    suits = partial(_has_truth, clips, corpus)

    def run(draft: Draft) -> None:
        suited, unsuited = _suited(models, suits)
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

    identity = [[clip.id for clip in clips], contents_of(corpus), [model.shown for model in models]]
    return Prepared(identity, run, _scorings(models, suits, clips, perturbations))


def fairness(entry: FairnessEntry, context: Context) -> Prepared:
    """Each model's figures by group, gaps between groups, and what errors go along with."""
    corpus, models = context.corpus(entry.corpus, entry.targets), context.models()
    clips, notes = context.clips(corpus, entry.split, entry.clips)
    table = None if entry.groups is None else entry.groups.expanduser()
    own = [] if table is None else list(read_groupings(table, clips))
    groupings = [*usual_groupings(clips), *own]
    suits = partial(_has_truth, clips, corpus)

    def run(draft: Draft) -> None:
        config, seed = context.plan.evaluation, context.plan.seed
        with context.progress("listening for level and noise") as progress:
            properties = sound_properties(clips, progress=progress)
        suited, unsuited = _suited(models, suits)
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
    identity = [[clip.id for clip in clips], contents_of(corpus), groups, [model.shown for model in models]]
    return Prepared(identity, run, _scorings(models, suits, clips))


def _scorings(
    models: Sequence[OpenModel],
    suits: Callable[[TargetSpec], bool],
    clips: Sequence[Clip],
    perturbations: Sequence[Perturbation] = (),
) -> Callable[[], list[Scoring]]:
    return lambda: [Scoring(model, clips, perturbations) for model in _suited(models, suits)[0]]


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


def _has_truth(clips: Sequence[Clip], corpus: Corpus, spec: TargetSpec) -> bool:
    try:
        Truth.of(clips, spec, corpus.classes)
    except RequestError:
        return False
    return True
