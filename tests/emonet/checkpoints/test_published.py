from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from emonet.checkpoints import (
    ExpertsInfo,
    check_banks,
    export_published,
    holds_published,
    import_published,
    load_banks,
    load_published,
    nothing_but_published,
    open_published,
    read_info,
)
from emonet.checkpoints.files import save_bank
from emonet.encoders import FrozenEncoder
from emonet.errors import RequestError
from emonet.experts import ExpertBank, InputSpec
from emonet.targets import PUBLISHED, Target, TargetSpec
from tests.tiny import write_encoder

pytestmark = pytest.mark.numeric

FRAMES, WIDTH = 1500, 16
LARGE = (128, 128, 64, 32)
POOLED = 4 * WIDTH


@pytest.fixture(scope="module")
def encoder(whisper30: Path) -> FrozenEncoder:
    return FrozenEncoder.load(str(whisper30))


@pytest.fixture
def folder(tmp_path: Path, write_published: Callable[..., Path]) -> Path:
    """Three emotions, one of them compiled, an attribute, a larger emotion and a quality score."""
    folder = tmp_path / "published"
    for name in ("Jealousy_&_Envy", "Anger", "Submissive_vs._Dominant"):
        write_published(folder, name)
    write_published(folder, "Pleasure_Ecstasy", compiled=True)
    write_published(folder, "Sadness", hidden=LARGE)
    write_published(folder, "score_overall_quality", inputs=POOLED)
    (folder / "README.md").write_text("how to load them")
    return folder


def reference(path: Path, inputs: torch.Tensor) -> torch.Tensor:
    """The published arithmetic, out of torch's own layers."""
    state = {key.removeprefix("_orig_mod."): value for key, value in torch.load(path, weights_only=True).items()}
    hidden = nn.functional.linear(inputs, state["proj.weight"], state["proj.bias"])
    for number in (2, 5, 8, 11):
        hidden = nn.functional.linear(hidden.relu(), state[f"mlp.{number}.weight"], state[f"mlp.{number}.bias"])
    return hidden.squeeze(1)


def test_experts_of_one_form_and_depth_share_a_bank(folder: Path, encoder: FrozenEncoder) -> None:
    opened = open_published(folder)
    assert [expert.target.id for expert in opened.experts] == [
        "pleasure", "sadness", "anger", "jealousy", "submissive_dominant", "overall_quality",
    ]  # fmt: skip
    assert len(opened.absent) == len(PUBLISHED) - 6
    banks = {bank.name: bank for bank in opened.banks(encoder)}
    assert {name: bank.info.target_spec.ids for name, bank in banks.items()} == {
        "flatten-64-64-32-16": ("pleasure", "anger", "jealousy", "submissive_dominant"),
        "flatten-128-128-64-32": ("sadness",),
        "statistics-64-64-32-16": ("overall_quality",),
    }
    info = banks["flatten-64-64-32-16"].info
    assert (info.frames, info.width, info.window_seconds, info.store_fingerprint) == (FRAMES, WIDTH, 30.0, None)
    assert info.encoder_digest == encoder.digest
    assert info.spec == InputSpec("flatten", "all", FRAMES, WIDTH, 0)
    assert info.target_spec["Dominance"].low == -3


def test_scores_are_those_of_the_published_module(folder: Path, encoder: FrozenEncoder) -> None:
    states, lengths = torch.randn(3, FRAMES, WIDTH), torch.tensor([10, 700, 1500])
    pooled = torch.cat((states.mean(1), states.amin(1), states.amax(1), states.std(1)), 1)
    checked = 0
    for bank, info in load_published(folder, encoder):
        scores = bank(info.spec.prepare(states, lengths))
        for column, target in enumerate(info.target_spec):
            inputs = pooled if info.form == "statistics" else states.flatten(1)
            expected = reference(folder / f"model_{target.checkpoint}_best.pth", inputs)
            torch.testing.assert_close(scores[:, column], expected, rtol=1e-4, atol=1e-5)
            checked += 1
    assert checked == 6


def test_in_and_out_again_is_the_same_bit_for_bit(folder: Path, encoder: FrozenEncoder, tmp_path: Path) -> None:
    odd = folder / "model_Anger_best.pth"
    state = torch.load(odd, weights_only=True)
    state["mlp.2.weight"][0, :4] = torch.tensor([-0.0, 1e-42, 3.4e38, torch.finfo(torch.float32).tiny])
    torch.save(state, odd)
    import_published(open_published(folder), encoder, tmp_path / "experts")
    calls: list[tuple[int, int]] = []
    written = export_published(
        tmp_path / "experts", tmp_path / "again", progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (6, 6)
    assert {path.name for path in written} == {path.name for path in folder.glob("*.pth")}
    for path in written:
        before, after = (torch.load(place, weights_only=True) for place in (folder / path.name, path))
        assert [key.removeprefix("_orig_mod.") for key in before] == list(after)
        for tensor, again in zip(before.values(), after.values(), strict=True):
            assert again.dtype == torch.float32
            assert torch.equal(tensor.view(torch.int32), again.view(torch.int32))
    assert open_published(tmp_path / "again").absent == open_published(folder).absent


def test_hidden_files_beside_experts_are_passed_over(folder: Path) -> None:
    before = [expert.path for expert in open_published(folder).experts]
    (folder / "._model_Anger_best.pth").write_bytes(b"\0\5\x16\7")
    assert [expert.path for expert in open_published(folder).experts] == before


def test_several_banks_lie_in_a_folder_each_and_one_lies_alone(
    folder: Path, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    out = tmp_path / "experts"
    infos = import_published(open_published(folder), encoder, out)
    assert {path.name for path in out.iterdir()} == {
        "flatten-64-64-32-16", "flatten-128-128-64-32", "statistics-64-64-32-16",
    }  # fmt: skip
    assert sorted(check_banks(out).values(), key=str) == sorted(infos, key=str)
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(folder / "model_Anger_best.pth", one)
    import_published(open_published(one), encoder, out)
    assert {path.name for path in out.iterdir()} == {"anger.safetensors", "experts.json"}
    assert load_banks(out)[0].bank.targets == ("anger",)


def test_all_problems_are_told_at_once_and_nothing_is_written(
    folder: Path, encoder: FrozenEncoder, write_published: Callable[..., Path], tmp_path: Path
) -> None:
    write_published(folder, "Joie")
    write_published(folder, "Pleasure")  # an alias of what is there
    write_published(folder, "Fear", **{"mlp.5.weight": torch.zeros(32, 63)})
    write_published(folder, "Awe", **{"proj.bias": torch.full((64,), float("nan"))})
    write_published(folder, "Doubt", inputs=1499)
    write_published(folder, "score_speech_quality", inputs=POOLED + 1)
    (folder / "model_Pain_best.pth").write_bytes((folder / "model_Anger_best.pth").read_bytes()[:-1000])
    torch.save({"x": Path}, folder / "model_Pride_best.pth")
    (folder / "anger.pth").touch()
    with pytest.raises(RequestError) as caught:
        load_published(folder, encoder)
    message = str(caught.value)
    for line in (
        "some published experts cannot be used",
        "model_Joie_best.pth: there is no target called 'Joie'",
        "model_Pleasure_best.pth: pleasure",
        "model_Fear_best.pth: mlp.5.weight is [32, 63], expected [32, 64]",
        "model_Awe_best.pth: proj.bias has weights that are NaN or infinite",
        "model_Doubt_best.pth: proj.weight is [64, 1499], expected [64, 1500 x WIDTH] for 1500 states of a clip",
        "model_score_speech_quality_best.pth: proj.weight is [64, 65], expected [64, 4 x WIDTH] for 4 statistics",
        "model_Pain_best.pth: it cannot be read, and may have been cut short",
        "model_Pride_best.pth: it holds other things than weights, perhaps code, and was not opened",
        "anger.pth: the name is not model_NAME_best.pth",
        f"where:    {folder}",
        "some of the experts are enough",
    ):
        assert line in message, line
    with pytest.raises(RequestError, match="some published experts cannot be used"):
        import_published(open_published(folder), encoder, tmp_path / "experts")
    assert not (tmp_path / "experts").exists()


def test_two_files_for_one_target_name_each_other(tmp_path: Path, write_published: Callable[..., Path]) -> None:
    for name in ("Pleasure", "Pleasure_Ecstasy"):
        write_published(tmp_path, name)
    with pytest.raises(
        RequestError,
        match=r"model_Pleasure_best\.pth: pleasure already has an expert, model_Pleasure_Ecstasy_best\.pth",
    ):
        open_published(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_that_are_not_finite_are_found_while_they_are_read(
    tmp_path: Path, encoder: FrozenEncoder, write_published: Callable[..., Path], precision: str
) -> None:
    write_published(tmp_path, "Anger")
    write_published(tmp_path, "Fear", **{"mlp.2.bias": torch.full((64,), float("inf"))})
    open_published(tmp_path)  # looks at shapes alone
    with pytest.raises(RequestError, match=r"model_Fear_best\.pth: mlp\.2\.bias has weights that are NaN or infinite"):
        load_published(tmp_path, encoder, precision)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="NaN or infinite"):
        import_published(open_published(tmp_path), encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_without_published_experts(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"(?s)no published experts here.*model_NAME_best\.pth.*no (such|\.pth)"):
        open_published(tmp_path / name)
    assert not holds_published(tmp_path / name)


def test_an_encoder_with_other_states_is_refused(
    tmp_path: Path,
    encoder: FrozenEncoder,
    voice_parts: tuple[Path, Path],
    write_published: Callable[..., Path],
) -> None:
    write_published(tmp_path, "Anger")
    with pytest.raises(
        RequestError,
        match=r"(?s)other states than this encoder gives.*1500 states of 16 values.*50 states of 32 values",
    ):
        open_published(tmp_path).banks(FrozenEncoder.load(str(voice_parts[0])))
    write_published(tmp_path, "Anger", inputs=1500 * 24)
    with pytest.raises(RequestError, match=r"(?s)1500 states of 24 values.*1500 states of 16 values"):
        load_published(tmp_path, encoder)
    write_published(tmp_path, "score_overall_quality", inputs=POOLED)
    with pytest.raises(RequestError, match=r"1500 states of 16 and of 24 values"):
        load_published(tmp_path, encoder)


def test_an_encoder_of_inner_layers_is_refused(tmp_path: Path, write_published: Callable[..., Path]) -> None:
    write_published(tmp_path, "Anger", inputs=1500 * 8)
    shape = {"d_model": 8, "encoder_ffn_dim": 16, "encoder_layers": 2, "max_source_positions": 1500}
    source = str(write_encoder(tmp_path / "whisper", **shape))
    message = (
        r"(?s)other states than this encoder gives.*of 8 values, of the last layer\n.*of 8 values, of inner layers"
    )
    with pytest.raises(RequestError, match=message):
        load_published(tmp_path, FrozenEncoder.load(source, layers=(1,)))
    with pytest.raises(RequestError, match=message):
        import_published(open_published(tmp_path), FrozenEncoder.load(source, layers=(1,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (bank,) = load_published(tmp_path, FrozenEncoder.load(source, layers="last"))
    assert bank.info.encoder_layers is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_layers": (3,)}, "states of layers 3, and"),
        ({"encoder_layers": (2, 3, 6), "layers": (2, 6)}, "states of layers 2 6, and"),
    ],
)
def test_experts_on_inner_layers_are_not_exported(
    tmp_path: Path, changes: dict[str, tuple[int, ...]], message: str
) -> None:
    whole = saved(tmp_path / "whole", InputSpec("flatten", "all", 1500, 4), PUBLISHED.subset(["fear"]))
    info = ExpertsInfo.model_validate({**read_info(whole).model_dump(), **changes})
    save_bank(ExpertBank(info.spec, info.experts, info.hidden), info, tmp_path / "experts")
    with pytest.raises(
        RequestError, match=rf"(?s)no published form.*{message} published experts hear those of the last"
    ):
        export_published(tmp_path / "experts", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def saved(folder: Path, spec: InputSpec, targets: TargetSpec, hidden: tuple[int, ...] = (8, 8, 4, 2)) -> Path:
    bank = ExpertBank(spec, targets.ids, hidden)
    info = ExpertsInfo(
        targets=targets.to_json(), form=spec.form, pool_over=spec.pool_over, queries=spec.queries,
        window_seconds=30.0, frames=spec.frames, width=spec.width, hidden=bank.hidden, encoder_digest="e" * 64,
    )  # fmt: skip
    save_bank(bank, info, folder)
    return folder


@pytest.mark.parametrize(
    ("spec", "target", "message"),
    [
        (InputSpec("attention", "all", 1500, 4), "anger", r"attention: published experts have no learned queries"),
        (InputSpec("moments", "all", 1500, 4), "anger", r"moments: published experts hear minimum and maximum, too"),
        (InputSpec("flatten", "all", 50, 4), "anger", r"50 states a clip, and published experts hear 1500"),
        (InputSpec("statistics", "speech", 1500, 4), "overall_quality", r"published experts pool over all"),
        (InputSpec("statistics", "all", 1500, 4), "anger", r"anger: the published expert .* does not see statistics"),
        (InputSpec("flatten", "all", 1500, 4), "overall_quality", r"overall_quality: .* does not see flatten"),
    ],
)
def test_experts_without_a_published_form_are_not_exported(
    tmp_path: Path, spec: InputSpec, target: str, message: str
) -> None:
    folder = saved(tmp_path / "experts", spec, PUBLISHED.subset([target]))
    with pytest.raises(RequestError, match=rf"(?s)these experts have no published form.*{message}"):
        export_published(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ensembles_are_not_exported(ensemble_voice: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no published form.*ensembles of 3 experts.*heads\.ensemble 1"):
        export_published(ensemble_voice / "experts", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_targets_of_ones_own_have_no_published_name(tmp_path: Path) -> None:
    own = TargetSpec((Target("stress", "Stress", 0, 1, ""), Target("age", "Age", 0, 100, "years")))
    folder = saved(tmp_path / "experts", InputSpec("flatten", "all", 1500, 4), own)
    with pytest.raises(RequestError, match=r"(?s)stress: no published expert has that target.*age: no published"):
        export_published(folder, tmp_path / "out")


def test_other_widths_go_out_and_come_back(tmp_path: Path) -> None:
    folder = saved(tmp_path / "experts", InputSpec("flatten", "all", 1500, 4), PUBLISHED.subset(["fear", "valence"]))
    export_published(folder, tmp_path / "out")
    assert {expert.hidden for expert in open_published(tmp_path / "out").experts} == {(8, 8, 4, 2)}


@pytest.mark.parametrize("hidden", [(8,), (8, 4), (8, 8, 8, 4, 2)])
def test_another_depth_is_not_exported_since_the_published_network_has_four_layers(
    tmp_path: Path, hidden: tuple[int, ...]
) -> None:
    folder = saved(tmp_path / "experts", InputSpec("flatten", "all", 1500, 4), PUBLISHED.subset(["fear"]), hidden)
    widths = "-".join(map(str, hidden))
    with pytest.raises(RequestError, match=rf"hidden layers of {widths}, and published experts have 4, the projection"):
        export_published(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_anything_else_is_not_one_of_published_experts_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model_Anger_best.pth").touch()
    assert nothing_but_published(folder)
    for name in ("epoch_3.pth", "model_Anger.pth", "Anger_best.pth", "notes.txt"):
        (folder / name).touch()
        assert not nothing_but_published(folder), name
        (folder / name).unlink()
    (folder / "model_data_best.pth").mkdir()
    assert not nothing_but_published(folder)
    assert not nothing_but_published(folder / "model_Anger_best.pth")
    assert not nothing_but_published(tmp_path / "nowhere")
