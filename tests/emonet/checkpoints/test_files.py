from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emonet.checkpoints import ExpertsInfo, check_banks, expert_shapes, load_banks
from emonet.checkpoints.files import load_bank, save_bank
from emonet.configs import HIDDEN, InputForm
from emonet.errors import RequestError
from emonet.experts import ExpertBank, ExpertsPrecision, InputSpec, QuantizedBank, Scaling
from emonet.targets import EMOTIONS

pytestmark = pytest.mark.numeric

FRAMES, WIDTH = 10, 4
TARGETS = ("fear", "anger")
PUBLISHED = {
    f"{layer}.{kind}" for layer in ("proj", "mlp.2", "mlp.5", "mlp.8", "mlp.11") for kind in ("weight", "bias")
}


def a_bank(form: InputForm = "flatten") -> tuple[ExpertBank, ExpertsInfo]:
    spec = InputSpec(form, "speech", FRAMES, WIDTH)
    ids = EMOTIONS.subset(TARGETS).ids
    info = ExpertsInfo(
        targets=EMOTIONS.subset(TARGETS).to_json(),
        form=form,
        pool_over="speech",
        queries=spec.queries,
        window_seconds=0.2,
        frames=FRAMES,
        width=WIDTH,
        hidden=HIDDEN["small"],
        encoder_digest="e" * 64,
        store_fingerprint="s" * 64,
        validation_mae={"anger": 0.5},
        best_epoch={"anger": 3},
    )
    return ExpertBank(spec, ids, HIDDEN["small"], seed=1).eval(), info


@pytest.mark.parametrize("form", ["flatten", "statistics", "moments", "attention"])
def test_what_is_saved_is_loaded(tmp_path: Path, form: InputForm) -> None:
    bank, info = a_bank(form)
    save_bank(bank, info, tmp_path / "heads")
    loaded, read = load_bank(tmp_path / "heads")
    assert read == info
    assert loaded.targets == bank.targets
    assert not loaded.training
    features = info.spec.prepare(torch.randn(3, FRAMES, WIDTH), torch.tensor([1, 5, 10]))
    assert torch.equal(loaded(features), bank(features))


def an_ensemble(form: InputForm = "flatten", **changes: object) -> tuple[ExpertBank, ExpertsInfo]:
    single, info = a_bank(form)
    info = ExpertsInfo.model_validate({**info.model_dump(), "ensemble": 3, **changes})
    return ExpertBank(single.spec, info.experts, info.hidden, seed=1).eval(), info


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_ensemble_is_loaded_as_it_was_saved(tmp_path: Path, precision: ExpertsPrecision) -> None:
    bank, info = an_ensemble(intervals={"factors": {"fear": 2.0}})
    save_bank(bank, info, tmp_path / "heads")
    names = {f"{target}{member}.safetensors" for target in TARGETS for member in ("", ".2", ".3")}
    assert {path.name for path in (tmp_path / "heads").iterdir()} == names | {"experts.json"}
    (loaded,) = load_banks(tmp_path / "heads", precision)
    assert loaded.info == info
    states, lengths = torch.randn(4, FRAMES, WIDTH), torch.tensor([1, 5, 10, 10])
    with torch.inference_mode():
        expected, alone = (one(info.spec.prepare(states, lengths)) for one in (bank, a_bank()[0]))
        members = loaded.scores(states, lengths)
    torch.testing.assert_close(members.flatten(1), expected, atol=1e-6 if precision == "float32" else 0.05, rtol=0)
    torch.testing.assert_close(expected[:, ::3], alone)  # the first members
    half_widths = loaded.half_widths(members)
    assert half_widths[:, 0] == pytest.approx(2 * members[:, 0].std(1).numpy())
    assert np.isnan(half_widths[:, 1]).all()


def test_members_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    save_bank(*an_ensemble("statistics"), tmp_path / "heads")
    save_bank(*an_ensemble("statistics", window_seconds=6.0, encoder_digest="f" * 64), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "fear.2.safetensors", tmp_path / "heads")
    message = r"(?s)mixed windows and encoders in an ensemble.*fear\.2.*window_seconds 0\.2.*window_seconds 6"
    for read in (check_banks, load_bank):
        with pytest.raises(RequestError, match=message):
            read(tmp_path / "heads")
    save_bank(*a_bank("flatten"), tmp_path / "flat")
    shutil.copy(tmp_path / "flat" / "fear.safetensors", tmp_path / "heads" / "fear.2.safetensors")
    with pytest.raises(RequestError, match=r"(?s)the shape of proj\.weight is not what experts\.json says.*fear\.2"):
        check_banks(tmp_path / "heads")
    (tmp_path / "heads" / "fear.2.safetensors").unlink()
    with pytest.raises(RequestError, match=r"(?s)cannot be read.*fear\.2\.safetensors.*each target has 3"):
        check_banks(tmp_path / "heads")


def test_files_have_the_published_keys(tmp_path: Path) -> None:
    save_bank(*a_bank("flatten"), tmp_path / "heads")
    assert {path.name for path in (tmp_path / "heads").iterdir()} == {
        "anger.safetensors",
        "fear.safetensors",
        "experts.json",
    }
    tensors = load_file(tmp_path / "heads" / "anger.safetensors")
    assert set(tensors) == PUBLISHED
    assert tensors["proj.weight"].shape == (64, FRAMES * WIDTH)
    assert tensors["mlp.11.weight"].shape == (1, 16)
    save_bank(*a_bank("attention"), tmp_path / "heads")
    assert set(load_file(tmp_path / "heads" / "anger.safetensors")) == PUBLISHED | {"pool.query"}


def test_saving_replaces_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "heads"
    folder.mkdir()
    (folder / "joy.safetensors").touch()
    save_bank(*a_bank(), folder)
    assert not (folder / "joy.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["heads"]


def test_a_failed_save_leaves_the_old_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_bank(*a_bank(), tmp_path / "heads")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("emonet.checkpoints.files.save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save_bank(*a_bank(), tmp_path / "heads")
    load_bank(tmp_path / "heads")


def test_scaled_or_other_experts_are_not_saved(tmp_path: Path) -> None:
    bank, info = a_bank()
    with pytest.raises(ValueError, match="does not fit"):
        save_bank(bank, ExpertsInfo.model_validate({**info.model_dump(), "width": 5}), tmp_path / "heads")
    ones = torch.ones(FRAMES * WIDTH)
    bank.standardise(Scaling(ones, ones, torch.ones(WIDTH)))
    with pytest.raises(ValueError, match="fold"):
        save_bank(bank, info, tmp_path / "heads")


def test_a_wrong_shape_names_the_file_and_both_shapes(tmp_path: Path) -> None:
    folder = tmp_path / "heads"
    save_bank(*a_bank(), folder)
    path = folder / "anger.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "proj.weight": torch.zeros(64, 99)}, path)
    with pytest.raises(RequestError, match=r"proj\.weight(.|\n)*anger\.safetensors(.|\n)*\[64, 40\](.|\n)*\[64, 99\]"):
        load_bank(folder)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "heads"
    with pytest.raises(RequestError, match="no experts here"):
        load_bank(folder)
    save_bank(*a_bank(), folder)
    path = folder / "fear.safetensors"
    save_file({"proj.weight": torch.zeros(64, 40)}, path)
    with pytest.raises(RequestError, match=r"other tensors(.|\n)*fear\.safetensors(.|\n)*mlp\.11\.bias"):
        load_bank(folder)
    path.write_bytes(b"no safetensors")
    with pytest.raises(RequestError, match=r"cannot be read(.|\n)*fear\.safetensors"):
        load_bank(folder)
    path.unlink()
    with pytest.raises(RequestError, match=r"cannot be read(.|\n)*fear\.safetensors"):
        load_bank(folder)
    info = folder / "experts.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "hidden": "huge"}))
    with pytest.raises(RequestError, match=r"description cannot be read(.|\n)*experts\.json"):
        load_bank(folder)


VERSION_1 = """{
  "format_version": 1,
  "targets": [
    {"id": "anger", "name": "Anger", "low": 0.0, "high": 4.0, "meaning": "how strongly the voice expresses Anger"}
  ],
  "form": "statistics",
  "pool_over": "speech",
  "queries": 0,
  "window_seconds": 0.2,
  "frames": 10,
  "width": 4,
  "preset": "large",
  "encoder_digest": "e0",
  "store_fingerprint": "50",
  "validation_mae": {"anger": 0.5},
  "best_epoch": {"anger": 3}
}
"""


def test_a_description_of_version_1_is_read(tmp_path: Path) -> None:
    """It named a preset where there are widths now."""
    tensors = {
        "proj.weight": torch.zeros(128, 16), "proj.bias": torch.zeros(128),
        "mlp.2.weight": torch.zeros(128, 128), "mlp.2.bias": torch.zeros(128),
        "mlp.5.weight": torch.zeros(64, 128), "mlp.5.bias": torch.zeros(64),
        "mlp.8.weight": torch.zeros(32, 64), "mlp.8.bias": torch.zeros(32),
        "mlp.11.weight": torch.zeros(1, 32), "mlp.11.bias": torch.full((1,), 2.5),
    }  # fmt: skip
    save_file(tensors, tmp_path / "anger.safetensors")
    (tmp_path / "experts.json").write_text(VERSION_1)
    bank, info = load_bank(tmp_path)
    assert (info.format_version, info.hidden) == (2, (128, 128, 64, 32))
    assert (info.targets[0]["id"], info.frames, info.validation_mae) == ("anger", 10, {"anger": 0.5})
    features = info.spec.prepare(torch.randn(3, 10, 4), torch.tensor([1, 5, 10]))
    assert bank(features).flatten().tolist() == [2.5, 2.5, 2.5]


@pytest.mark.parametrize(
    "change", [{"preset": "huge"}, {"preset": ["small"]}, {"format_version": 2}, {"format_version": 3}]
)
def test_what_is_no_version_1_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "experts.json").write_text(json.dumps(json.loads(VERSION_1) | change))
    with pytest.raises(RequestError, match=r"description cannot be read(.|\n)*experts\.json"):
        load_bank(tmp_path)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_wide_layers_are_rounded_where_that_is_asked_for(tmp_path: Path, precision: ExpertsPrecision) -> None:
    bank, info = a_bank("flatten")
    save_bank(bank, info, tmp_path / "heads")
    loaded, read = load_bank(tmp_path / "heads", precision)
    assert isinstance(loaded, QuantizedBank)
    assert (read, loaded.targets, loaded.spec) == (info, bank.targets, bank.spec)
    features = info.spec.prepare(torch.randn(3, FRAMES, WIDTH), torch.tensor([1, 5, 10]))
    torch.testing.assert_close(loaded(features), bank(features).detach(), rtol=0.02, atol=0.01)
    assert isinstance(load_bank(tmp_path / "heads", "float32")[0], ExpertBank)


@pytest.mark.parametrize("form", ["statistics", "attention"])
def test_small_first_layers_stay_as_they_are(tmp_path: Path, form: InputForm) -> None:
    bank, info = a_bank(form)
    save_bank(bank, info, tmp_path / "heads")
    loaded, _ = load_bank(tmp_path / "heads", "int8")
    assert isinstance(loaded, ExpertBank)
    features = info.spec.prepare(torch.randn(3, FRAMES, WIDTH), torch.tensor([1, 5, 10]))
    assert torch.equal(loaded(features), bank(features))


@pytest.mark.parametrize("form", ["flatten", "statistics", "attention"])
def test_shapes_are_those_of_a_banks_tensors(form: InputForm) -> None:
    bank, info = a_bank(form)
    shapes = {key: list(tensor.shape) for key, tensor in bank.tensors(0)}
    assert expert_shapes(info.spec, info.hidden) == shapes


def second(tmp_path: Path, target: str) -> Path:
    """A folder of two banks, the second with one expert."""
    folder = tmp_path / "experts"
    save_bank(*a_bank("flatten"), folder / "flatten")
    bank, info = a_bank("statistics")
    spec = EMOTIONS.subset([target])
    info = ExpertsInfo.model_validate({**info.model_dump(), "targets": spec.to_json(), "store_fingerprint": None})
    save_bank(ExpertBank(bank.spec, spec.ids, bank.hidden), info, folder / "statistics")
    return folder


def test_a_folder_may_hold_several_banks(tmp_path: Path) -> None:
    folder = second(tmp_path, "awe")
    assert [place.name for place in check_banks(folder)] == ["flatten", "statistics"]
    banks = load_banks(folder)
    assert [bank.targets for bank, _ in banks] == [EMOTIONS.subset(TARGETS).ids, ("awe",)]
    assert banks[1].info.store_fingerprint is None
    assert [bank.targets for bank, _ in load_banks(folder / "statistics")] == [("awe",)]


def test_two_experts_for_one_target_are_refused(tmp_path: Path) -> None:
    folder = second(tmp_path, "fear")
    with pytest.raises(RequestError, match=r"(?s)some targets have several experts.*- fear.*keep one bank for each"):
        load_banks(folder)


def test_a_damaged_file_is_found_without_its_weights_being_read(tmp_path: Path) -> None:
    folder = second(tmp_path, "awe")
    save_file({"proj.weight": torch.zeros(64, 40)}, folder / "flatten" / "fear.safetensors")
    with pytest.raises(RequestError, match=r"other tensors(.|\n)*fear\.safetensors"):
        check_banks(folder)
    with pytest.raises(RequestError, match=r"(?s)no experts here.*no such folder.*emonet experts import"):
        check_banks(folder / "nowhere")
