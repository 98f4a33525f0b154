"""The verb `benchmark`: real protocols on a small corpus, small encoders and a small voice model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from emonet.errors import RequestError
from emonet.protocols import read_bench, write_bench_sample
from emonet.tracking import default_uri
from experiments import benchmark
from experiments.arguments import BenchmarkArguments, BenchmarkCorporaArguments
from experiments.benchmark import BenchmarkResult
from experiments.cli.verbs import main
from tests.peer_servers import Says, peer_server
from tests.tiny import write_encoder, write_wav2vec2

LABELS = ("anger", "fear")
SPLITS = ("train", "train", "validation", "test", "test", "test")


@pytest.fixture
def corpus(tmp_path: Path, make_wav: Callable[..., Path]) -> str:
    """Six speakers, two classes, two clips of each; three speakers for the test."""
    rows = ["audio,speaker,split,label,anger,fear"]
    for speaker in range(6):
        for row in range(4):
            name = f"clips/{speaker}-{row}.wav"
            make_wav(name, hertz=100.0 + 40 * speaker + 10 * row, seconds=0.4 + 0.1 * row)
            anger = row % 2
            rows.append(f"{name},s{speaker},{SPLITS[speaker]},{LABELS[1 - anger]},{4 * anger},{4 - 4 * anger}")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    return f"manifest:{tmp_path / 'clips.csv'}"


def a_plan(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def run(plan: str, runs: Path, **flags: object) -> BenchmarkResult:
    return benchmark.run(BenchmarkArguments(plan=plan, runs=runs, **flags))  # type: ignore[arg-type]


def test_the_bench_of_a_table_of_predictions(tmp_path: Path, runs: Path, capsys) -> None:
    sample = write_bench_sample(tmp_path / "bench.parquet", ("anger", "fear"), seconds=0.2)
    clips = read_bench(sample.path).clips
    rows = ["id,anger,fear", *(f"{clip.id},{sample.meant[clip.id].get('anger', 0)},1" for clip in clips)]
    (tmp_path / "answers.csv").write_text("\n".join(rows) + "\n")
    plan = a_plan(
        tmp_path,
        f"models: [{{model: 'table:{tmp_path / 'answers.csv'}', name: knows anger}}]\n"
        "evaluation: {resamples: 20}\n"
        f"protocols: [{{protocol: bench, data: {sample.path}}}, {{protocol: raters, ratings: {sample.path}}}]\n",
    )
    result = run(plan, runs)
    tables = result.report.protocols
    assert {"table5", "table6", "table9", "table10", "figure1", "consensus", "reconciliation"} <= set(tables)
    by_emotion = {row.cells["emotion"]: row.cells.get("knows anger") for row in tables["table6"].rows}
    assert by_emotion["anger"] > 0.9, "it gives each clip what was meant, which raters mostly hear"
    benchmark.show(result)
    shown = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in shown if "Models against raters" in line or "Predicted distributions" in line]
    assert len(shown) < 20, "one short table for each of the two protocols, and where the page is"
    assert shown[-1].startswith("page:")
    assert result.report.headlines == {"bench": "table5", "raters": "label_distributions"}
    logged = MlflowClient(default_uri(runs)).get_run(result.run_id)
    assert logged.data.tags["plan"] == "mine"
    assert "seconds/bench" in logged.data.metrics
    spearman = next(row for row in tables["table5"].rows if row.cells["model"] == "knows anger").cells["spearman"]
    assert logged.data.metrics["table5/knows anger/spearman"] == pytest.approx(spearman.value)  # type: ignore[union-attr]

    (result.folder / "index.html").unlink()
    again = run(plan, runs)
    assert "bench: up to date" in capsys.readouterr().err
    assert again.report.protocols == tables
    assert (again.folder / "index.html").is_file()


@pytest.mark.slow
def test_every_protocol_of_models_and_encoders(tmp_path: Path, runs: Path, corpus: str, voice: Path, capsys) -> None:
    (tmp_path / "mapping.csv").write_text("emotion,class\nanger,anger\nfear,fear\n")
    (tmp_path / "groups.csv").write_text("speaker,accent\n" + "".join(f"s{n},{'ab'[n % 2]}\n" for n in range(6)))
    head = "{epochs: 2, warmup: 1, hidden: 4}"
    whisper, other = write_encoder(tmp_path / "whisper"), write_wav2vec2(tmp_path / "wav2vec2")
    plan = a_plan(
        tmp_path,
        f"""
corpus: {corpus}
models: [{{model: {voice}, name: ours}}, {{model: champion, optional: true}}]
encoders: [{{encoder: {whisper}, name: whisper}}, {{encoder: {other}, name: wav2vec 2.0}}]
evaluation: {{resamples: 20}}
protocols:
  - {{protocol: sim_to_real, mapping: {tmp_path / "mapping.csv"}}}
  - {{protocol: robustness, clips: 12, perturbations: ["gain:-20"]}}
  - {{protocol: fairness, groups: {tmp_path / "groups.csv"}}}
  - {{protocol: emobox, folds: "3", leaderboard: RAVDESS, head: {head}}}
  - {{protocol: cross_corpus, most: 4, corpora: {{"Ruñdess, spoken": "{corpus}", two: "{corpus}"}}, head: {head}}}
  - {{protocol: bench, data: {tmp_path / "nowhere.parquet"}, optional: true}}
""",
    )
    result = run(plan, runs)
    names = set(result.report.protocols)
    assert {"robustness", "fairness", "fairness_gaps", "fairness_pairs", "fairness_correlates"} <= names
    assert {"emobox", "emobox_rank: whisper", "emobox_rank: wav2vec 2.0", "emobox_cross", "sim_to_real"} <= names
    encoders = {row.cells["encoder"] for row in result.report.protocols["emobox"].rows}
    assert encoders == {"whisper", "wav2vec 2.0"}
    assert "EmoNet-Voice Bench is not there" in result.report.skipped["bench"]
    assert "left out the model champion" in capsys.readouterr().err
    page = (result.folder / "index.html").read_text()
    assert page.count("data:image/png") == sum(
        len(json.loads(part.read_text())["pictures"]) for part in (result.folder / "parts").glob("*/part.json")
    )
    assert "accent" in page


def test_clips_that_a_model_was_trained_on_judge_nobody(tmp_path: Path, runs: Path, corpus: str, voice: Path) -> None:
    import shutil

    import pandas as pd

    from emonet.corpora import open_corpus
    from emonet.tracking import lineage

    mine = tmp_path / "voice"
    shutil.copytree(voice, mine)
    clips = pd.DataFrame(
        [
            (c.id, "train" if c.speaker.endswith("s3") else "test", c.speaker, c.seconds)
            for c in open_corpus(corpus).clips
        ],
        columns=["id", "split", "speaker", "seconds"],
    )
    made = lineage.Lineage.of(
        clips, experiment="mine", corpus=corpus, corpus_fingerprint="0" * 64, window_seconds=1.0,
        store_fingerprint="0" * 64, encoder="e", encoder_digest="0" * 64, seed=0, settings={},
    )  # fmt: skip
    lineage.write(mine, made, clips)
    plan = a_plan(
        tmp_path,
        f"corpus: {corpus}\nmodels: [{mine}]\nevaluation: {{resamples: 10}}\n"
        "protocols: [{protocol: robustness, perturbations: ['gain:-20']}]\n",
    )
    table = run(plan, runs).report.protocols["robustness"]
    assert any("4 of these clips: left out for all models" in note for note in table.notes)


def test_names_labels_and_mappings_that_change_are_done_again(tmp_path: Path, runs: Path, corpus: str) -> None:
    from emonet.corpora import open_corpus

    ids = [clip.id for clip in open_corpus(corpus).clips]
    scores = "".join(f"{name},{4 * (n % 2)},{4 - 4 * (n % 2)},1\n" for n, name in enumerate(ids))
    (tmp_path / "answers.csv").write_text(f"id,anger,fear,joy\n{scores}".replace("joy", "elation"))
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("emotion,class\nanger,anger\nfear,fear\n")

    def wa(name: str) -> float:
        plan = a_plan(
            tmp_path,
            f"corpus: {corpus}\nmodels: [{{model: 'table:{tmp_path / 'answers.csv'}', name: {name}}}]\n"
            f"evaluation: {{resamples: 10}}\nprotocols: [{{protocol: sim_to_real, mapping: {mapping}}}]\n",
        )
        tables = run(plan, runs).report.protocols
        return next(row.cells["top1"].value for row in tables["sim_to_real"].rows if row.cells["model"] == name)  # type: ignore[union-attr]

    assert wa("one") == 100
    assert wa("other") == 100, "renamed models have rows of their own"
    labels = tmp_path / "clips.csv"
    text = labels.read_text()
    labels.write_text(text.replace(",anger,4,0", ",fear,4,0"))
    assert wa("other") == 50, "the labels were corrected"
    labels.write_text(text)
    mapping.write_text("emotion,class\nanger,fear\nfear,anger\n")
    assert wa("other") == 0, "the mapping was exchanged"


def test_clips_without_an_answer_are_asked_for_again(tmp_path: Path, runs: Path, corpus: str, capsys) -> None:
    calls = {"first_wait": 0, "requests_per_minute": 60_000}
    scores = {"anger": "/anger", "fear": "/fear"}
    with peer_server(lambda _: Says({"anger": 1.0, "fear": 2.0})) as server:
        row = {"url": server.url, "scores": scores, "calls": calls, "price": {}}
        (tmp_path / "peer.yaml").write_text(json.dumps(row))
        plan = a_plan(
            tmp_path,
            f"corpus: {corpus}\nmodels: [{{model: 'http:{tmp_path / 'peer.yaml'}', name: theirs}}]\n"
            "evaluation: {resamples: 10}\nprotocols: [{protocol: robustness, perturbations: ['gain:-20']}]\n",
        )
        nothing = run(plan, runs, replay=True).report.protocols["robustness"]
        assert nothing.rows[0].cells["refused"] == 12
        assert "24 answers of services are missing" in capsys.readouterr().err
        asked = run(plan, runs).report.protocols["robustness"]
        assert asked.rows[0].cells["refused"] == 0
        assert len(server.heard) == 24
        assert run(plan, runs, replay=True).report.protocols["robustness"] == asked
        assert "up to date" in capsys.readouterr().err
        row["scores"] = {"anger": "/fear", "fear": "/anger"}
        (tmp_path / "peer.yaml").write_text(json.dumps(row))
        assert run(plan, runs, replay=True).report.protocols["robustness"] != asked, "kept answers are read anew"


@pytest.mark.slow
def test_all_that_a_plan_costs_is_agreed_to_before_anything_is_sent(
    tmp_path: Path, runs: Path, corpus: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 clips, clean and in one perturbation; the clean ones are heard by three protocols and paid once."""
    (tmp_path / "mapping.csv").write_text("emotion,class\nanger,anger\nfear,fear\n")
    questions: list[str] = []
    with peer_server(lambda _: Says({"anger": 1.0, "fear": 2.0})) as server:
        row = {"url": server.url, "scores": {"anger": "/anger", "fear": "/fear"}, "price": {"per_clip": 1.0}}
        for name in ("one", "two"):
            (tmp_path / f"{name}.yaml").write_text(
                json.dumps(row | {"model": name, "calls": {"first_wait": 0, "requests_per_minute": 60_000}})
            )
        text = (
            f"corpus: {corpus}\nmodels: ['http:{tmp_path / 'one.yaml'}', 'http:{tmp_path / 'two.yaml'}']\n"
            "evaluation: {resamples: 10}\nprotocols:\n- {protocol: robustness, perturbations: ['gain:-20']}\n"
            f"- {{protocol: fairness}}\n- {{protocol: sim_to_real, split: test, mapping: {tmp_path / 'mapping.csv'}}}\n"
        )
        plan = a_plan(tmp_path, text)
        with pytest.raises(
            RequestError, match=r"(?s)at most 0\.00.*http:one: about 24\.00 .*http:two: .*--yes"
        ) as told:
            run(plan, runs)
        assert main(["benchmark", "run", plan, "--runs", str(runs)]) == 2
        assert "nothing was sent" in str(told.value)
        assert "http:one: about 24.00 US dollars for 24 clips" in capsys.readouterr().err
        with pytest.raises(RequestError, match=r"at most 47\.50 US dollars for http:one, http:two"):
            run(plan, runs, max_cost=47.5)
        monkeypatch.setattr("experiments.core.console.can_ask", lambda: True)
        monkeypatch.setattr("experiments.core.console.agreed", lambda asked: bool(questions.append(asked)))
        with pytest.raises(RequestError, match=r"services would cost more"):
            run(plan, runs)
        assert len(questions) == 1
        assert "about 48.00 US dollars for 48 clips" in questions[0]
        assert not server.heard
        run(plan, runs, yes=True, only=("fairness",))
        assert len(server.heard) == 24
        run(a_plan(tmp_path, f"max_cost: 24\n{text}"), runs)
        assert len(server.heard) == 48, "kept answers cost nothing, and the plan says what the others may"
        assert len(questions) == 1


def test_a_price_that_nobody_knows_is_agreed_to_once(
    tmp_path: Path, runs: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emonet.protocols.audits.perturbed.BLOCK", 5)
    monkeypatch.setattr("emonet.peers.endpoint.is_loopback", lambda _: False)  # those of this machine are free
    with peer_server(lambda _: Says({"anger": 1.0})) as server:
        row = {"url": server.url, "scores": {"anger": "/anger"}, "calls": {"requests_per_minute": 60_000}}
        (tmp_path / "peer.yaml").write_text(json.dumps(row))
        plan = a_plan(
            tmp_path,
            f"corpus: {corpus}\nmodels: ['http:{tmp_path / 'peer.yaml'}']\nevaluation: {{resamples: 10}}\n"
            "protocols: [{protocol: fairness}]\n",
        )
        with pytest.raises(RequestError, match=r"(?s)nobody knows how much for 12 clips"):
            run(plan, runs, max_cost=1000.0)
        assert not server.heard
        run(plan, runs, yes=True)
        assert len(server.heard) == 12


@pytest.mark.slow
def test_heads_on_distributions_of_a_corpus_and_of_the_bench(tmp_path: Path, runs: Path, corpus: str) -> None:
    from emonet.corpora import open_corpus

    clips = open_corpus(corpus).clips
    rows = [
        f"{clip.id},{rater},{target},{score}"
        for clip in clips
        for rater in "abc"
        for target, score in ((clip.label, 4), (LABELS[clip.label == LABELS[0]], 4 * (rater == "c")))
    ]
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("\n".join(["clip,rater,target,score", *rows, "elsewhere,a,anger,4"]) + "\n")
    sample = write_bench_sample(tmp_path / "bench.parquet", ("anger", "fear"), seconds=0.2, repeats=2).path
    answers = "".join(f"{clip.id},{4 * (clip.label == LABELS[0])},1\n" for clip in clips)
    (tmp_path / "answers.csv").write_text(f"id,anger,fear\n{answers}")
    mine = (tmp_path / "answers.csv").read_text()
    answers = "".join(f"{clip.id},1,1\n" for clip in read_bench(sample).clips)
    (tmp_path / "answers.csv").write_text(f"{mine}{answers}")
    text = (
        f"encoders: [{{encoder: {write_encoder(tmp_path / 'tiny')}, name: tiny}}]\nevaluation: {{resamples: 10}}\n"
        f"models: [{{model: 'table:{tmp_path / 'answers.csv'}', name: theirs, optional: true}}]\nprotocols:\n"
        f"- {{protocol: raters, ratings: {ratings}, corpus: '{corpus}', heads: yes, name: table}}\n"
        f"- {{protocol: raters, ratings: {sample}, name: bench}}\n"
    )
    plan = a_plan(tmp_path, text)
    tables = run(plan, runs).report.protocols
    for name, tested in (("table", 24), ("bench", None)):
        heads = tables[f"{name}/label_heads"]
        trained = {row["model"]: row["trained"] for row in heads.records()}
        assert list(trained) == [
            "mean of training labels", "head on distributions", "head on plurality", "head on majority",
        ]  # fmt: skip
        assert tested is None or trained["head on distributions"] == 16, "two of three folds"
    (theirs,) = tables["table/label_distributions"].records()
    assert (theirs["model"], theirs["wa"]) == ("theirs", 1.0), "models are judged on the corpus' clips, too"
    assert any("of 1 rated clips there is no sound" in note for note in tables["table/label_distributions"].notes)
    (tmp_path / "answers.csv").write_text(mine)
    with pytest.raises(RequestError, match=r"(?s)no rated clip was scored by all models.*theirs: 0"):
        run(plan, runs, only=("bench",))


def test_heads_that_cannot_be_trained_are_told_or_refused(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "ratings.csv").write_text("clip,rater,target,score\nx,a,anger,4\nx,b,fear,4\n")
    sample = write_bench_sample(tmp_path / "bench.parquet", ("anger", "fear"), seconds=0.2).path
    nobody = "models: [{model: champion, optional: true}]"  # what raters say is told without any model
    for ratings, heads, told in (
        (tmp_path / "ratings.csv", "", "the table has no sound"),
        (sample, "", "no such"),
        (tmp_path / "ratings.csv", ", heads: yes", "the table has no sound"),
    ):
        plan = a_plan(
            tmp_path,
            f"encoders: [{tmp_path / 'nowhere'}]\n{nobody}\nprotocols: [{{protocol: raters, ratings: {ratings}{heads}}}]\n",
        )
        if heads:
            with pytest.raises(RequestError, match=told):
                run(plan, runs)
        else:
            notes = run(plan, runs).report.protocols["label_variance"].notes
            assert any(note.startswith("no heads were trained") and told in note for note in notes), notes


@pytest.mark.parametrize("protocol", ["bench, data", "raters, ratings"])
def test_the_bench_may_be_a_folder(tmp_path: Path, runs: Path, protocol: str) -> None:
    (tmp_path / "bench").mkdir()
    write_bench_sample(tmp_path / "bench" / "one.parquet", ("anger", "fear"), seconds=0.2)
    plan = a_plan(
        tmp_path, f"protocols: [{{protocol: {protocol}: {tmp_path / 'bench'}}}]\nevaluation: {{resamples: 9}}\n"
    )
    assert run(plan, runs).report.protocols


def test_ratings_that_are_not_there_are_told(tmp_path: Path, runs: Path) -> None:
    plan = a_plan(tmp_path, f"protocols: [{{protocol: raters, ratings: {tmp_path / 'none.csv'}}}]\n")
    with pytest.raises(RequestError, match=r"(?s)the table of ratings is not there.*none\.csv"):
        run(plan, runs)


def test_a_protocol_that_is_not_optional_ends_the_run(tmp_path: Path, runs: Path) -> None:
    plan = a_plan(tmp_path, f"protocols: [{{protocol: bench, data: {tmp_path / 'nowhere.parquet'}}}]\n")
    with pytest.raises(RequestError, match=r"(?s)EmoNet-Voice Bench is not there.*nowhere.*docs/benchmark-bench"):
        run(plan, runs)


def test_an_optional_protocol_that_a_model_is_not_made_for_leaves_the_page_to_the_others(
    tmp_path: Path, runs: Path, corpus: str
) -> None:
    from emonet.corpora import open_corpus

    rows = "".join(f"{clip.id},1\n" for clip in open_corpus(corpus).clips)
    (tmp_path / "answers.csv").write_text(f"id,anger\n{rows}")
    (tmp_path / "mapping.csv").write_text("emotion,class\nanger,anger\nfear,fear\n")
    plan = a_plan(
        tmp_path,
        f"corpus: {corpus}\nmodels: ['table:{tmp_path / 'answers.csv'}']\nevaluation: {{resamples: 10}}\nprotocols:\n"
        "- {protocol: robustness, perturbations: ['gain:-20']}\n"
        f"- {{protocol: sim_to_real, mapping: {tmp_path / 'mapping.csv'}, optional: true}}\n",
    )
    report = run(plan, runs).report
    assert "fewer than two classes" in report.skipped["sim_to_real"]
    assert list(report.protocols) == ["robustness"]
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace(", optional: true", ""))
    with pytest.raises(RequestError, match="fewer than two classes"):
        run(plan, runs)


def test_only_protocols_of_the_plan_can_be_asked_for(tmp_path: Path, runs: Path) -> None:
    plan = a_plan(tmp_path, "protocols: [{protocol: bench, data: sample}]\n")
    with pytest.raises(RequestError, match=r"(?s)the plan has no such protocol.*expected: bench.*found:    emobox"):
        run(plan, runs, only=("emobox",))


def test_entries_are_asked_for_by_their_names_or_protocols(tmp_path: Path, runs: Path, corpus: str, capsys) -> None:
    from emonet.corpora import open_corpus

    rows = "".join(f"{clip.id},1,2\n" for clip in open_corpus(corpus).clips)
    (tmp_path / "answers.csv").write_text(f"id,anger,fear\n{rows}")
    plan = a_plan(
        tmp_path,
        f"corpus: {corpus}\nmodels: ['table:{tmp_path / 'answers.csv'}']\nevaluation: {{resamples: 10}}\nprotocols:\n"
        "- {protocol: robustness, name: quiet, perturbations: ['gain:-20']}\n"
        "- {protocol: robustness, name: fast, perturbations: ['speed:1.25']}\n- {protocol: fairness}\n",
    )
    assert list(run(plan, runs, only=("quiet", "fairness")).report.headlines) == ["quiet", "fairness"]
    for verb, entries in (("robustness", ["quiet", "fast"]), ("fairness", ["fairness"])):
        assert main(["benchmark", verb, plan, "--runs", str(runs), "--json"]) == 0
        assert list(json.loads(capsys.readouterr().out)["report"]["headlines"]) == entries
    with pytest.raises(RequestError, match=r"(?s)no such protocol.*expected: quiet, fast, fairness.*found:    emobox"):
        run(plan, runs, only=("quiet", "emobox"))
    (tmp_path / "mine.yaml").write_text("protocols: [{protocol: bench, data: sample}]")
    assert main(["benchmark", "robustness", plan, "--runs", str(runs)]) == 2


def test_the_corpora_are_listed(capsys) -> None:
    table = benchmark.corpora(BenchmarkCorporaArguments())
    assert len(table.rows) == 32
    assert main(["benchmark", "corpora"]) == 0
    assert "ravdess" in capsys.readouterr().err.lower()


@pytest.mark.slow
def test_what_is_left_out_for_one_reason_is_told_in_one_line(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = a_plan(
        tmp_path,
        """
protocols:
  - {protocol: bench, data: nowhere.parquet, optional: true}
  - {protocol: bench, name: again, data: nowhere.parquet, optional: true}
  - {protocol: raters, ratings: sample}
""",
    )
    benchmark.show(run(plan, runs))
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"left out bench, again: EmoNet-Voice Bench is not there;", said)
