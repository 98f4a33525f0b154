"""Plans of benchmarks: what a file may say, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from emonet.errors import RequestError
from emonet.protocols.emobox.cross import MOST
from experiments.benchmark.plan import SHIPPED, key_of, load_plan


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_plan_is_named_after_its_file_and_fills_in_its_corpus(tmp_path: Path) -> None:
    text = "corpus: ravdess:here\nmodels: [champion]\nprotocols: [{protocol: sim_to_real, mapping: ravdess}]\n"
    plan = load_plan(write(tmp_path / "mine.yaml", text))
    assert (plan.name, plan.models[0].label, plan.protocols[0].corpus) == ("mine", "champion", "ravdess:here")  # type: ignore[union-attr]


def test_flags_replace_the_plans_corpus_and_encoders(tmp_path: Path) -> None:
    text = "corpus: a\nencoders: [b]\nprotocols: [{protocol: emobox, folds: loso}, {protocol: fairness, corpus: own}]\n"
    plan = load_plan(write(tmp_path / "mine.yaml", text), corpus="other", encoder="folder")
    assert [entry.corpus for entry in plan.protocols] == ["other", "own"]  # type: ignore[union-attr]
    assert [encoder.label for encoder in plan.encoders] == ["folder"]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_plans_load(path: Path) -> None:
    assert load_plan(path.stem).description


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("protocols: []", r"protocols: .*at least 1 item"),
        ("protocols: [{protocol: telepathy}]", r"telepathy.*does not match any of the expected tags"),
        ("protocols: [{protocol: emobox, folds: loso}]", r"emobox names no corpus, and neither does the plan"),
        ("protocols: [{protocol: bench, data: sample, rule: loudest}]", r"protocols\.0\.bench\.rule"),
        ("protocols: [{protocol: bench, data: a}, {protocol: bench, data: b}]", r"two protocols are called 'bench'"),
        ("models: [a, a]\nprotocols: [{protocol: bench, data: a}]", r"two models are called 'a': give them names"),
        ("protocols: [{protocol: bench, data: a, name: ../../b}]", r"protocols\.0\.bench\.name: .*pattern"),
        ("- bench", r"the plan is not a mapping"),
        ("{", r"the plan cannot be read"),
    ],
)
def test_what_is_wrong_with_a_plan_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RequestError, match=rf"(?s){told}"):
        load_plan(write(tmp_path / "mine.yaml", text))


def test_heads_are_trained_as_emobox_says_by_name(tmp_path: Path) -> None:
    text = "corpus: a\nprotocols: [{protocol: emobox, folds: loso, head: readme}]"
    plan = load_plan(write(tmp_path / "mine.yaml", text))
    assert (plan.protocols[0].head.hidden, plan.protocols[0].head.epochs) == (128, 100)  # type: ignore[union-attr]


def test_protocols_that_are_wrong_are_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"protocols\.0\.bench\.data: field required") as caught:
        load_plan(write(tmp_path / "mine.yaml", "protocols: [{protocol: bench}]"))
    assert "at least 1 item" not in str(caught.value)


def test_a_plan_that_is_not_there_is_told() -> None:
    with pytest.raises(RequestError, match=r"(?s)there is no such plan.*nowhere\.yaml.*a YAML file, or benchmark"):
        load_plan("nowhere.yaml")


def test_balanced_test_sets_are_as_large_as_emoboxs(tmp_path: Path) -> None:
    text = "protocols: [{protocol: cross_corpus, corpora: {one: a, two: b}}]"
    assert load_plan(write(tmp_path / "mine.yaml", text)).protocols[0].most == MOST  # type: ignore[union-attr]


def test_entries_are_called_by_their_name_or_protocol(tmp_path: Path) -> None:
    text = "protocols: [{protocol: bench, data: a}, {protocol: bench, data: b, name: second}]"
    plan = load_plan(write(tmp_path / "mine.yaml", text))
    assert [key_of(entry) for entry in plan.protocols] == ["bench", "second"]
