from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only
from lightning.pytorch.loggers import CSVLogger

from cache.store import FeatureStore
from emonet.clips import Corpus
from lightningmodules.alone import alone_on
from lightningmodules.captioner import fit_captioner
from tests.lightningmodules.captioner.test_module import Seen, config, corpus
from tests.lightningmodules.experts.test_fitting import fit

__all__ = ["corpus"]  # a fixture
CLUSTERS = {
    "slurm": {
        "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "2", "SLURM_NODEID": "1", "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "node[1-2]", "SLURM_NTASKS_PER_NODE": "2",
    },
    "a rank": {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0", "GROUP_RANK": "1", "RANK": "3",
        "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500",
    },
    "lsf": {
        "LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/no/file", "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "4",
        "JSM_NAMESPACE_RANK": "3",
    },
    "mpi": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "1", "PMI_SIZE": "2", "NODE_RANK": "1"},
    "kubeflow": {
        "KUBERNETES_PORT": "tcp://10.0.0.1:443", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2",
        "RANK": "1",
    },
}  # fmt: skip


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process as a cluster starts it: with a rank that Lightning sees when it is imported."""
    for name, value in CLUSTERS[request.param].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", _get_rank() or 0)


@pytest.mark.usefixtures("cluster")
def test_a_single_process_is_one_whatever_the_environment_says(make_store: Callable[..., FeatureStore]) -> None:
    trainer = Trainer(**alone_on(torch.device("cpu")), logger=False, enable_checkpointing=False)
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank, trainer.node_rank) == (1, 0, 0, 0)
    assert trainer.is_global_zero
    reports: list[Mapping[str, float]] = []
    fitted = fit(make_store(), epochs=2, reports=reports)
    assert len(reports) == 2
    assert fitted.predict("test").shape == (40, 2)


@pytest.mark.usefixtures("cluster")
def test_curves_and_checkpoints_are_all_there(corpus: Corpus, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="curves", version="")
    fitted = fit_captioner(
        corpus, config(epochs=1), seed=0, folder=tmp_path / "t", watch=replace(Seen().watch, logger=logger)
    )
    assert fitted.epochs == 1
    assert {path.name for path in (tmp_path / "t").iterdir()} >= {"best.ckpt", "last.ckpt", "finished"}
    assert "val_loss" in (tmp_path / "curves" / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"),
    [("cpu", "cpu", 1), ("cuda", "cuda", [0]), ("cuda:1", "cuda", [1]), ("mps", "mps", [0])],
)
def test_the_device_is_the_one_that_was_decided_on(device: str, accelerator: str, devices: object) -> None:
    told = alone_on(torch.device(device))
    assert (told["accelerator"], told["devices"]) == (accelerator, devices)
