from __future__ import annotations

import pytest

from emonet.errors import RequestError
from lightningmodules.ranks import Place, ToldError, place_of
from tests.lightningmodules.test_alone import CLUSTERS


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_one_process_is_one_whatever_the_environment_says(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLUSTERS[cluster].items():
        monkeypatch.setenv(name, value)
    assert place_of(1, 1) == Place()
    assert not Place().in_company
    assert Place().leads


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ("slurm", Place(2, 4, 2, 2, 1, "10.0.0.9", 4000, "Slurm")),
        ("torchrun", Place(3, 4, 2, 1, 1, "10.0.0.1", 29500, "torchrun")),
    ],
)
def test_launchers_say_which_process_this_is(cluster: str, expected: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "10.0.0.9", "MASTER_PORT": "4000", **CLUSTERS[cluster]}.items():
        monkeypatch.setenv(name, value)
    place = place_of(2, 2)
    assert place == expected
    assert place.in_company
    assert not place.leads, "and the first one tells what is wrong"
    with pytest.raises(ToldError, match=r"number of processes is not the one(?s:.*)expected: +3: (?s:.*)found: +4"):
        place_of(3, 1)


def test_a_batch_script_of_one_task_starts_its_processes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CLUSTERS["slurm"], "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert place_of(4, 1) == Place(size=4, devices=4)
    assert not place_of(4, 1).in_company
    assert place_of(4, 1).beside(3, 1234) == Place(3, 4, 4, 3, port=1234, launcher="emonet")


def test_machines_can_be_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"on 2 machines needs somebody(?s:.*)found: +nothing of these(?s:.*)srun"):
        place_of(2, 2)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "4000")
    monkeypatch.setenv("NODE_RANK", "2")
    with pytest.raises(RequestError, match=r"found: +MASTER_ADDR=10\.0\.0\.1, MASTER_PORT=4000, NODE_RANK=2"):
        place_of(2, 2)
    monkeypatch.setenv("NODE_RANK", "1")
    place = place_of(2, 2)
    assert place == Place(2, 4, 2, 0, 1, "10.0.0.1", 4000)
    assert place.in_company
    assert place.beside(1, 4000).rank == 3
