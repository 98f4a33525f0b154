from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch import nn
from torch.nn import functional

from emonet.clips import Clip, Fold, Folds, deal_folds, number_of
from emonet.configs import EvaluationConfig
from emonet.errors import EmonetError, RequestError
from emonet.evaluation import Estimate
from emonet.protocols import (
    SETTINGS,
    EmoBoxConfig,
    HeardStates,
    ProtocolTable,
    TrainedFold,
    balanced,
    common_class,
    corpora_table,
    cross_corpus,
    cross_corpus_figure,
    cross_corpus_leaderboard,
    cross_corpus_table,
    emobox_rank,
    emobox_table,
    epochs_figure,
    leaderboard,
    leaderboard_corpora,
    rank_figure,
    ranked,
    selected,
    shared_classes,
    train_folds,
)
from emonet.protocols.emobox.training import Head, _Learner, _split
from emonet.runtime import generator, seed_of
from emonet.targets import NO_CLASS, Classes, ClassLabels

SHARED = Path(__file__).parents[4] / "shared" / "reference"
CLASSES = ("angry", "happy", "neutral", "sad")
FRAMES, WIDTH = 12, 8
QUICK = EmoBoxConfig(hidden=16, epochs=6, warmup=2, learning_rate=0.02, batch_size=8)
FEW = EvaluationConfig(resamples=50)


def corpus(
    *, speakers: int = 6, each: int = 4, classes: tuple[str, ...] = CLASSES, strength: float = 1.5, seed: int = 0
) -> HeardStates:
    """Clips whose states lean towards the direction of their class; what is behind their length is loud noise."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(7).normal(size=(len(CLASSES) + 4, WIDTH))
    states, lengths, clips, labels = [], [], [], []
    for speaker in range(speakers):
        for number, label in enumerate(classes):
            for take in range(each):
                length = int(rng.integers(4, FRAMES + 1))
                heard = rng.normal(size=(FRAMES, WIDTH)) + strength * directions[number]
                heard[length:] = 100 * rng.normal(size=(FRAMES - length, WIDTH))
                states.append(heard)
                lengths.append(length)
                labels.append(number)
                clips.append(Clip(f"c/{speaker}-{label}-{take}", b"", f"s{speaker}", "train", label=label))
    known = Classes({f"class_{name}": name for name in classes}, {name: row for row, name in enumerate(classes)})
    array = np.stack(states).astype(np.float16)
    return HeardStates(array.__getitem__, np.array(lengths), ClassLabels(known, np.array(labels)), clips)


@pytest.fixture(scope="module")
def data() -> HeardStates:
    return corpus(strength=0.5)


@pytest.fixture(scope="module")
def folds(data: HeardStates) -> Folds:
    return deal_folds(data.clips, 3)


@pytest.fixture(scope="module")
def runs(data: HeardStates, folds: Folds) -> tuple[TrainedFold, ...]:
    return train_folds(data, folds, QUICK)


def cells(table: ProtocolTable, **wanted: object) -> dict[str, Any]:
    (row,) = [row for row in table.rows if all(row.cells.get(name) == value for name, value in wanted.items())]
    return dict(row.cells)


# As published


def test_the_corpora_are_those_of_the_leaderboard() -> None:
    table = corpora_table()
    assert len(table.rows) == 32
    assert {row.cells["name"] for row in table.rows} == set(leaderboard_corpora())
    assert sum(int(row.cells["clips"]) for row in table.rows) == 262_020  # type: ignore[arg-type]
    assert sum(int(row.cells.get("speakers") or 0) for row in table.rows) == 3510  # type: ignore[arg-type]
    assert cells(table, name="RAVDESS")["licence"] == "CC BY-NC-SA 4.0"
    assert (cells(table, name="RAVDESS")["folds"], cells(table, name="EmoDB")["folds"]) == (6, 5)
    unknown = [str(row.cells["name"]) for row in table.rows if not row.cells.get("licence")]
    assert "URDU" in unknown
    assert f"no licence was found for {len(unknown)} of them" in table.notes[0]
    assert all(str(row.cells["url"]).startswith("http") for row in table.rows)


@pytest.mark.parametrize("name", ["leaderboard", "cross_corpus"])
def test_what_is_shipped_is_what_was_collected(name: str) -> None:
    if not (source := SHARED / f"emobox_{name}.csv").is_file():
        pytest.skip("EmoBox's published figures are not beside this checkout")
    import emonet.protocols.emobox

    shipped = Path(emonet.protocols.emobox.__file__).parent / "as_published" / f"{name}.csv"
    assert shipped.read_text("utf-8").splitlines() == source.read_text("utf-8").splitlines()


def test_an_encoder_is_ranked_among_the_ten() -> None:
    figures = {"ua": Estimate(value=0.661, low=0.6, high=0.7), "wa": 0.66, "macro_f1": 0.65}
    table = ranked("ravdess", "mine", figures, optimistic={"ua": 0.76, "wa": 0.75, "macro_f1": 0.7})  # type: ignore[arg-type]
    assert len(table.rows) == 12
    mine = cells(table, model="mine")
    assert mine["rank"] == 5
    assert [mine["ua"].value, mine["ua"].low, mine["ua"].high] == pytest.approx([66.1, 60.0, 70.0])
    assert [row.kind for row in table.rows].count("published") == 10
    first = table.rows[0]
    assert (first.kind, first.cells["rank"]) == ("optimistic", None)  # it takes no place from anybody
    assert cells(table, model="Whisper large v3") == {
        "rank": 1, "model": "Whisper large v3", "ua": 75.32, "wa": 75.87, "macro_f1": 75.19
    }  # fmt: skip
    assert cells(table, model="data2vec base")["rank"] == 11
    assert cells(leaderboard("RAVDESS"), model="data2vec base")["rank"] == 10
    assert any(
        "corrected" in note or "site" in note for name in leaderboard_corpora() for note in leaderboard(name).notes
    )


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(RequestError, match=r"(?s)no such corpus.*AESDD.*found: +nemo"):
        ranked("nemo", "mine", {"ua": 0.5})
    with pytest.raises(RequestError, match=r"(?s)no share.*0 to 1.*66\.1"):
        ranked("RAVDESS", "mine", {"ua": 66.1})
    undefined = ranked("RAVDESS", "mine", {"ua": Estimate(value=None, low=None, high=None)})
    assert undefined.rows[-1].cells["rank"] is None


def test_the_cross_corpus_leaderboard() -> None:
    table = cross_corpus_leaderboard()
    assert len(table.rows) == 9
    assert cells(table, model="Whisper large v3")["R->S"] == 66.91
    assert {row.kind for row in table.rows} == {"published"}


# Training


def test_rates_are_those_of_speechbrain() -> None:
    """Its schedule of (1, 2, 4) is 0, 0.5, 1, 0.5, 0, and comes in behind the first epoch."""
    config = EmoBoxConfig(learning_rate=1.0, warmup=2, epochs=4)
    assert [config.rate(epoch) for epoch in range(6)] == [1.0, 0.0, 0.5, 1.0, 0.5, 0.0]
    flat = EmoBoxConfig(learning_rate=1.0, warmup=0, epochs=2)
    assert [flat.rate(epoch) for epoch in range(3)] == [1.0, 1.0, 0.5]


class Published(nn.Module):
    """The head as EmoBox has it: padded batches, and a mask of what is not zero."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.pre_net, self.post_net = head.pre_net, head.post_net

    def forward(self, padded: torch.Tensor) -> torch.Tensor:
        mask = (padded.sum(dim=2) != 0.0).float()
        heard = functional.relu(self.pre_net(padded)) * mask.unsqueeze(-1)
        pooled: torch.Tensor = self.post_net(heard.sum(dim=1) / mask.sum(dim=1, keepdim=True))
        return functional.log_softmax(pooled, dim=1)


def test_an_epoch_is_that_of_emobox_code(data: HeardStates) -> None:
    learner = _Learner(data, QUICK, 3, "cpu")
    torch.manual_seed(9)
    theirs = Published(Head(WIDTH, QUICK.hidden, 4))
    theirs.load_state_dict(learner._head.state_dict())
    optimizer = torch.optim.Adam(theirs.parameters(), lr=QUICK.learning_rate)
    rows = np.arange(0, 96, 2)

    def batch(some: np.ndarray) -> torch.Tensor:
        cut = [torch.from_numpy(data.read(np.array([row]))[0, : data.lengths[row]]).float() for row in some]
        normal = [functional.layer_norm(one[None], one[None].shape[1:])[0] for one in cut]
        return nn.utils.rnn.pad_sequence(normal, batch_first=True)

    losses = []
    order = generator(3, 0).permutation(rows)
    for first in range(0, len(rows), QUICK.batch_size):
        some = order[first : first + QUICK.batch_size]
        loss = functional.nll_loss(theirs(batch(some)), torch.from_numpy(data.labels.given[some]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(theirs.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
    assert learner.epoch(rows, 0, "x") == pytest.approx(np.mean(losses), rel=1e-4)
    for name, weights in learner._head.state_dict().items():
        torch.testing.assert_close(weights, theirs.state_dict()[name], atol=1e-5, rtol=1e-4)
    other = np.arange(1, 96, 2)
    assert learner.predict(data, other).tolist() == theirs(batch(other)).argmax(1).tolist()


def test_training_is_seeded_and_does_not_hear_padding(data: HeardStates, folds: Folds) -> None:
    quick = QUICK.model_copy(update={"epochs": 2})
    (first, *_), (again, *_) = (train_folds(data, folds, quick) for _ in range(2))
    assert np.array_equal(first.losses, again.losses)
    array = data.read(np.arange(len(data.clips)))
    for row, length in enumerate(data.lengths):
        array[row, length:] = np.nan
    deaf = train_folds(replace(data, read=array.__getitem__), folds, quick)[0]
    assert np.array_equal(first.losses, deaf.losses)
    assert not np.array_equal(first.losses, train_folds(data, folds, quick, seed=1)[0].losses)
    unnormalised = train_folds(data, folds, quick.model_copy(update={"output_norm": False}))[0]
    assert not np.array_equal(first.losses, unnormalised.losses)
    state = torch.random.get_rng_state()
    train_folds(data, folds, quick)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_trained_on_and_chosen_by(data: HeardStates, folds: Folds) -> None:
    for fold in folds.folds:
        speakers, kind = _split(data, fold, QUICK, 0)
        assert kind == "speakers"
        by = {data.clips[row].speaker for row in speakers.validation}
        assert by.isdisjoint(data.clips[row].speaker for row in speakers.train)
        clips, other = _split(data, fold, QUICK.model_copy(update={"validation": "clips"}), 0)
        assert other == "clips"
        assert len(clips.validation) == round(0.2 * len(fold.train))
        assert np.array_equal(np.union1d(clips.train, clips.validation), fold.train)
        for split in (speakers, clips):
            assert not len(np.intersect1d(split.test, np.union1d(split.train, split.validation)))
    files = replace(folds.folds[0], train=folds.folds[0].train[4:], validation=folds.folds[0].train[:4])
    assert _split(data, files, QUICK.model_copy(update={"validation": "clips"}), 0)[1] == "files"


def test_it_learns_what_can_be_learnt() -> None:
    easy = corpus(strength=3.0)
    told: list[tuple[int, int]] = []
    runs = train_folds(
        easy, deal_folds(easy.clips, 2), QUICK, progress=lambda done, total, note="": told.append((done, total))
    )
    assert all(run.test_ua[run.epoch("validation")] > 0.9 for run in runs)
    assert told[0] == (0, 12)
    assert told[-1] == (12, 12)
    assert runs[0].predicted.shape == (6, 48)


def test_bf16_is_near_float32(data: HeardStates, folds: Folds) -> None:
    short = QUICK.model_copy(update={"epochs": 2, "learning_rate": 1e-3})
    exact, rounded = (
        train_folds(data, folds, short.model_copy(update={"precision": precision}))[0]
        for precision in ("float32", "bf16")
    )
    assert not np.array_equal(exact.losses, rounded.losses)
    assert exact.losses == pytest.approx(rounded.losses, abs=0.02)


def test_the_settings_are_those_of_emobox() -> None:
    found = {name: (one.hidden, one.epochs, one.learning_rate, one.batch_size) for name, one in SETTINGS.items()}
    assert found == {"yaml": (256, 20, 1e-4, 32), "readme": (128, 100, 1e-4, 32)}


def test_clips_without_a_class_are_left_out(data: HeardStates, folds: Folds) -> None:
    given = data.labels.given.copy()
    given[::3] = NO_CLASS
    some = replace(data, labels=ClassLabels(data.labels.classes, given))
    runs = train_folds(some, folds, QUICK.model_copy(update={"epochs": 1}))
    tested = np.concatenate([run.test for run in runs])
    assert (given[tested] != NO_CLASS).all()
    table = emobox_table(runs, some, FEW)
    assert "32 clips are tested in no fold, or have no class" in table.notes


def test_what_cannot_be_trained(data: HeardStates, folds: Folds) -> None:
    with pytest.raises(RequestError, match=r"(?s)of other clips.*lengths of 3 clips"):
        replace(data, lengths=data.lengths[:3])
    with pytest.raises(RequestError, match=r"1 clips without a state"):
        replace(data, lengths=np.where(np.arange(96) == 5, 0, data.lengths))
    alone = Folds((Fold("1", number_of([0]), number_of([1]), number_of(())),))
    with pytest.raises(RequestError, match="fold 1 has too few clips"):
        train_folds(data, alone, QUICK)
    broken = replace(data, read=lambda rows: np.full((len(rows), FRAMES, WIDTH), np.nan, np.float16))
    with pytest.raises(EmonetError, match="fold 1 diverged in epoch 1"):
        train_folds(broken, folds, QUICK)
    with pytest.raises(RequestError, match="no folds"):
        selected((), data, "last", FEW)


# Tables


def test_figures_are_those_of_sklearn(runs: tuple[TrainedFold, ...], data: HeardStates) -> None:
    table = emobox_table(runs, data, FEW)
    by = {"speakers held out of training": "validation", "nothing: the last one": "last", "test clips": "test"}
    for label, selection in by.items():
        each = []
        for run in runs:
            epoch = run.epoch(selection)  # type: ignore[arg-type]
            given, found = data.labels.given[run.test], run.predicted[epoch]
            each.append(
                (balanced_accuracy_score(given, found), accuracy_score(given, found), f1_score(given, found, average="macro"))
            )  # fmt: skip
            row = cells(table, selection=label, fold=run.name)
            assert [row[name] for name in ("ua", "wa", "macro_f1")] == pytest.approx([100 * one for one in each[-1]])
            assert row["epoch"] == epoch + 1
        mean = cells(table, selection=label, fold="mean over folds")
        assert [mean[name].value for name in ("ua", "wa", "macro_f1")] == pytest.approx(100 * np.mean(each, 0))
        assert mean["ua"].low <= mean["ua"].value <= mean["ua"].high
        assert cells(table, selection=label, fold="all clips")["clips"] == 96


def test_what_is_chosen_on_test_is_named_as_such(runs: tuple[TrainedFold, ...], data: HeardStates) -> None:
    table = emobox_table(runs, data, FEW)
    assert {row.kind for row in table.rows if row.cells["selection"] == "test clips"} == {"optimistic"}
    assert {row.kind for row in table.rows if row.cells["selection"] != "test clips"} == {"measured"}
    ours, best = (
        cells(table, selection=label, fold="mean over folds")["ua"].value
        for label in ("speakers held out of training", "test clips")
    )
    assert best >= ours
    assert f"adds {best - ours:.1f} points of UA" in table.notes[0]
    rank = emobox_rank("RAVDESS", "mine", runs, data, FEW)
    assert cells(rank, model="mine")["ua"].value == pytest.approx(ours)
    assert cells(rank, model="mine, epoch chosen on test")["ua"].value == pytest.approx(best)


def test_folds_that_share_speakers_are_told(data: HeardStates) -> None:
    half = np.arange(96) % 2 == 0
    one, other = number_of(np.flatnonzero(half).tolist()), number_of(np.flatnonzero(~half).tolist())
    leaking = Folds((Fold("1", one, other, number_of(())), Fold("2", other, one, number_of(()))))
    table = emobox_table(train_folds(data, leaking, QUICK.model_copy(update={"epochs": 1})), data, FEW)
    assert any(note.startswith("fold 1, 2: tested speakers are trained on, too (s0, s1") for note in table.notes)


# Across corpora


def test_test_sets_are_balanced_over_classes_and_speakers() -> None:
    data = corpus(speakers=5, each=6)
    given = data.labels.given.copy()
    given[(given == 1) & (np.arange(len(given)) % 2 == 0)] = NO_CLASS  # 15 clips of the second class are left
    rows = balanced(given, data.clips, most=60)
    assert np.bincount(given[rows]).tolist() == [15] * 4
    few = balanced(given, data.clips, most=10, seed=1)
    assert np.bincount(given[few]).tolist() == [10] * 4
    for one in range(4):
        speakers = [data.clips[row].speaker for row in few if given[row] == one]
        assert sorted(speakers) == sorted(f"s{number}" for number in range(5) for _ in range(2))
    assert np.array_equal(few, balanced(given, data.clips, most=10, seed=1))
    assert not np.array_equal(few, balanced(given, data.clips, most=10, seed=2))


def test_each_corpus_against_each(tmp_path: Path) -> None:
    corpora = {
        "one": corpus(strength=3.0),
        "two": corpus(strength=3.0, speakers=5, classes=("Anger", "happiness", "neutral", "boredom"), seed=1),
        "three": corpus(strength=3.0, speakers=3, classes=("ang", "joy", "neu"), seed=2),
    }
    assert shared_classes(corpora) == ("angry", "happy", "neutral")
    told: list[int] = []
    runs = cross_corpus(corpora, QUICK, progress=lambda done, total, note="": told.append(done))
    assert [(run.trained, run.tested) for run in runs] == [
        (a, b) for a in corpora for b in corpora if a != b
    ]  # fmt: skip
    assert told[-1] == 3 * QUICK.epochs
    table = cross_corpus_table(runs, FEW)
    assert len(table.rows) == 12
    measured = [row for row in table.rows if row.kind == "measured"]
    for row in measured:
        assert row.cells["ua"].value > 75  # type: ignore[union-attr]
        assert row.cells["ua"].value == pytest.approx(row.cells["wa"].value)  # type: ignore[union-attr]
    assert "3 classes, which all corpora have: angry, happy, neutral; chance is 33.3 %" in table.notes
    cross_corpus_figure(table, tmp_path / "cross.png")
    assert (tmp_path / "cross.png").stat().st_size > 5000


def test_what_cannot_be_compared() -> None:
    one = corpus(each=1)
    with pytest.raises(RequestError, match=r"(?s)fewer than two classes.*one: angry.*other: boredom, surprise"):
        cross_corpus({"one": one, "other": corpus(each=1, classes=("surprised", "Bored"))}, QUICK)
    with pytest.raises(RequestError, match="two at least"):
        cross_corpus({"one": one}, QUICK)
    wide = replace(one, read=lambda rows: np.zeros((len(rows), FRAMES, 9), np.float16))
    with pytest.raises(RequestError, match=r"(?s)not of one encoder.*one 8, wide 9"):
        cross_corpus({"one": one, "wide": wide}, QUICK)
    with pytest.raises(RequestError, match="no corpora to compare"):
        cross_corpus_table((), FEW)
    assert [common_class(label) for label in ("Anger ", "fearful", "pride")] == ["angry", "fear", "pride"]


def test_pictures(runs: tuple[TrainedFold, ...], data: HeardStates, tmp_path: Path) -> None:
    rank_figure(emobox_rank("EMOVO", "mine", runs, data, FEW), tmp_path / "rank.png")
    epochs_figure(runs, tmp_path / "epochs.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("rank.png", "epochs.png"))


def test_seeds_of_folds_differ() -> None:
    assert seed_of(0, "emobox", "1") != seed_of(0, "emobox", "2")
