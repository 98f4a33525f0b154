"""The verb `predict`: scores of recordings and of their parts, as a table, JSON, CSV, Parquet or a plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from emonet.audio import shared_decoders
from emonet.errors import RequestError
from emonet.names import as_text
from emonet.targets import TargetSpec
from experiments.core import console, decoration
from experiments.predict.asked import Asked, read_request
from experiments.predict.hume import as_hume
from experiments.predict.models import open_pipeline
from experiments.predict.output import check_output, draw_plot, write_table
from experiments.predict.results import FilePrediction, PredictResult
from experiments.predict.scorer import score_files
from experiments.predict.showing import show

if TYPE_CHECKING:
    from emonet.inference import Prediction
    from experiments.arguments import PredictArguments

__all__ = ["run", "show"]


def run(arguments: PredictArguments) -> PredictResult:
    """Score files, folders, tables or segments; what cannot be used is reported, and the rest is done.

    Raises:
        RequestError: if there is no file, no model, or if an output cannot be written; before anything is loaded.
    """
    for output in (arguments.csv, arguments.plot):
        check_output(output)
    request = read_request(arguments)
    audible = [row for row in request.rows if row.error is None]
    spec, found, coverage = _predicted(arguments, audible, "segments" if request.in_parts else "files")
    heard = iter(found)
    result = PredictResult(
        model=f"scorer:{arguments.scorer}"
        if arguments.scorer is not None
        else as_text(arguments.model if arguments.experts is None else arguments.experts),
        predictions=tuple(_of(row, None if row.error is not None else next(heard), coverage) for row in request.rows),
        passed_over=request.passed_over,
        coverage=coverage,
        top=arguments.top,
        in_parts=request.in_parts,
        targets=tuple(spec.to_json()),
    )
    if arguments.format == "hume":
        result = result.model_validate({**dict(result), "document": as_hume(result, spec)})
    if arguments.csv is not None:
        try:
            write_table(result, spec.ids, request, arguments.csv)
        except OSError as error:  # the scores are still shown, and printed with --json
            result = result.model_validate({**dict(result), "unwritten": f"{arguments.csv}: {error.strerror or error}"})
    if arguments.plot is not None:
        with decoration(f"the plot {arguments.plot}"):
            draw_plot(result, spec, arguments.plot)
    return result


def _predicted(
    arguments: PredictArguments, rows: Sequence[Asked], unit: str
) -> tuple[TargetSpec, Iterable[Prediction], float | None]:
    """What the model scores, what it heard in each row, and, if wanted, the coverage of its uncertainties."""
    if arguments.scorer is not None:
        return *score_files(arguments, rows), None
    shared_decoders().start()  # they import while the model is loaded
    pipeline = open_pipeline(arguments)
    if arguments.uncertainty and pipeline.coverage is None:
        raise RequestError(
            "this model does not know how uncertain its scores are",
            where=arguments.model if arguments.experts is None else arguments.experts,
            expected="an ensemble: several experts of each target, and intervals fitted on validation clips",
            found=pipeline.members,
            hint="emonet heads --heads.ensemble 5 trains one",
        )
    if arguments.rank_by == "z" and pipeline.population is None:
        raise RequestError(
            "this model does not know what it gave its training clips",
            where=arguments.model if arguments.experts is None else arguments.experts,
            expected="a reference population, which emonet heads saves with its experts; published ones have none",
            hint="--rank-by score",
        )
    with console.progress("listening", unit) as progress:
        excerpts = [row.excerpt for row in rows]
        heard = pipeline.predict(excerpts, batch_size=arguments.batch_size, progress=progress)
        ranked = [_ranked(one, pipeline.target_spec) for one in heard] if arguments.rank_by == "z" else list(heard)
        return pipeline.target_spec, ranked, pipeline.coverage if arguments.uncertainty else None


def _ranked(heard: Prediction, spec: TargetSpec) -> Prediction:
    """The same with the emotions first that stand out most from what the model gave its training clips."""
    from emonet.inference import strongest_first

    return replace(heard, scores=strongest_first(heard.scores, spec, heard.standardised)) if heard.scores else heard


def _of(row: Asked, heard: Prediction | None, coverage: float | None) -> FilePrediction:
    part = {name: getattr(row.excerpt, name) for name in ("start", "end", "channel")}
    known = {"audio": row.name, "speaker": row.speaker, "text": row.text, **part}
    if heard is None:
        return FilePrediction(seconds=0, scores={}, error=row.error, **known)
    lengths = {name: getattr(heard, name) for name in ("seconds", "total")}
    return FilePrediction(
        **known,
        **{name: None if math.isnan(length) else length for name, length in lengths.items()},
        notices=heard.notices,
        scores=dict(heard.scores),
        uncertainties=None if coverage is None else dict(heard.uncertainties),
        standardised=dict(heard.standardised) or None,
        unfamiliarity=heard.unfamiliarity,
        error=heard.error,
    )
