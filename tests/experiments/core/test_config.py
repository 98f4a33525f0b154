import re
from pathlib import Path

import pytest

from emonet.errors import RequestError
from experiments.cli import main
from experiments.core import Experiment, load, shipped


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_experiment_loads_under_its_own_name(name: str) -> None:
    experiment = load(name)
    assert experiment.name == name
    assert experiment.description
    assert experiment.folder == Path("runs") / name


def test_the_expected_experiments_are_shipped() -> None:
    assert set(shipped()) == {"sandbox", "quick", "ravdess", "ravdess-base", "paper-base", "paper-small", "paper-large"}


def test_experiments_with_real_weights_share_their_settings_but_the_form_of_input() -> None:
    quick, base = (
        load(name).model_dump(exclude={"name", "description", "corpus"}) for name in ("quick", "ravdess-base")
    )
    assert (quick["heads"].pop("inputs"), base["heads"].pop("inputs")) == (("moments",), ("statistics",))
    assert quick == base


def test_a_file_of_ones_own_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("corpus: sandbox\nheads: {epochs: 3}\n")
    experiment = load(str(path))
    assert (experiment.name, experiment.heads.epochs) == ("mine", 3)
    assert experiment.captioner == Experiment().captioner


def test_unknown_experiment_lists_what_there_is() -> None:
    with pytest.raises(
        RequestError, match=r"(?s)no experiment called 'ravdes'.*one of .*sandbox.*--experiment ravdess"
    ):
        load("ravdes")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no such experiment file.*nothing\.yaml"):
        load(str(tmp_path / "nothing.yaml"))


def test_moments_in_8_bits_are_refused_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = (
        r"(?s)heads\.optimiser.state: input should be 'full': 8bit \(torchao's\) is gone.*precision bf16.*found '8bit'"
    )
    path = tmp_path / "old.yaml"
    path.write_text("heads: {optimiser_state: 8bit}\n")
    with pytest.raises(RequestError, match=told):
        load(str(path))
    path.write_text("sweep: {space: {heads.optimiser_state: {choices: [full, 8bit]}}}\n")
    with pytest.raises(RequestError, match=told):
        load(str(path))
    assert main(["heads", "--optimiser-state", "8bit"]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_a_finished_stage_is_known_by_all_settings_that_a_release_had() -> None:
    assert Experiment().heads.model_dump()["optimiser_state"] == "full"


def test_all_wrong_fields_come_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("captioner: {epoch: 3, batch_size: none}\nheadz: {}\nseed: -1\n")
    with pytest.raises(RequestError) as caught:
        load(str(path))
    message = str(caught.value)
    assert "captioner.epoch: no such field; did you mean epochs?" in message
    assert "captioner.batch_size: input should be a valid integer" in message
    assert "found 'none'" in message
    assert "headz: no such field; did you mean heads?" in message
    assert "seed: input should be greater than or equal to 0; found -1" in message
    assert "wrong.yaml" in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match="not a mapping"):
        load(str(path))


@pytest.mark.parametrize("text", ["a: [1,\n", "targets: 2024-13-45\n", "[" * 5000])
def test_broken_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"(?s)cannot be read.*broken\.yaml"):
        load(str(path))


def test_the_documentation_lists_every_field() -> None:
    from tools.document_configuration import PAGE, page

    assert PAGE.read_text("utf-8") == page(), "run: python tools/document_configuration.py"
