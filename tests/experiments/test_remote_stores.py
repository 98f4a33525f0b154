"""Experiments whose feature store lies in a bucket or on another disk, by the verbs that people type."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cache.store import FeatureStore
from emonet.errors import RequestError
from emonet.objects import Objects
from experiments import extract
from experiments.cli import main
from experiments.core import Experiment
from experiments.extract import store_of
from experiments.heads import run as train
from tests.buckets import S3


def at(experiment: Experiment, store: str | None, **fields: object) -> Experiment:
    settings = experiment.model_dump()
    settings["extraction"]["store"] = store
    return Experiment.model_validate({**settings, **fields})


def test_where_the_store_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mini = Experiment(name="mini", runs=tmp_path)
    for named, found in (
        (None, tmp_path / "mini/store.zarr"),
        ("s3://b/somewhere", "s3://b/somewhere/mini/store.zarr"),
        ("gs://b/own.zarr", "gs://b/own.zarr"),
        ("/disk", "/disk/mini/store.zarr"),
        ("~/own.zarr", tmp_path / "own.zarr"),
    ):
        assert str(store_of(at(mini, named))) == str(found)
    with pytest.raises(RequestError, match="no object store"):
        store_of(at(mini, "ftp://b/x"))


def test_a_place_changes_nothing_about_stages_that_are_done() -> None:
    assert "store" not in Experiment().extraction.distinguishing()


@pytest.mark.slow  # the whole of two experiments
def test_extract_and_heads_are_the_same_as_on_a_disk(
    mini_experiment: Experiment, bucket: str, s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    local = at(
        mini_experiment, None, name="local", heads={**mini_experiment.heads.model_dump(), "features": "principal"}
    )
    remote = at(local, f"{bucket}/lab", name="remote")
    ours, theirs = extract.run(local), extract.run(remote)
    url = f"{bucket}/lab/remote/store.zarr"
    assert str(theirs.store) == url
    assert theirs.fingerprint == ours.fingerprint
    assert json.loads((remote.folder / "extract.json").read_text())["store"] == url
    capsys.readouterr()
    assert extract.run(remote) == theirs
    assert "up to date" in capsys.readouterr().err
    assert not (remote.folder / "store.zarr").exists()
    tables = []
    for experiment in (local, remote):
        train(experiment)
        (predictions,) = experiment.folder.rglob("predictions.parquet")
        tables.append(pd.read_parquet(predictions))
    pd.testing.assert_frame_equal(*tables)
    assert list((remote.folder / "store.zarr.kept" / "principal").iterdir())
    assert {key for key, _ in Objects.open(url).list() if "principal" in key} == set()
    Objects.open(url).delete(["shards/00001.json"])
    assert extract.run(remote).fingerprint == ours.fingerprint  # only what is missing
    assert FeatureStore.open(url).fingerprint == ours.fingerprint


@pytest.mark.slow  # an extraction, and six verbs
def test_the_verbs_of_stores_take_urls(
    mini_experiment: Experiment, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = at(mini_experiment, str(tmp_path / "disk"))
    extract.run(experiment)
    local, url = str(tmp_path / "disk/mini/store.zarr"), f"{bucket}/s.zarr"
    assert main(["store", "copy", local, url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["target"], report["resumed"], report["checked"]) == (url, 0, True)
    assert main(["store", "copy", local, url, "--no-check"]) == 0
    assert f"resumed: {report['shards']} of {report['shards']} shards were there" in capsys.readouterr().err
    assert main(["store", "info", url]) == 0
    assert "finished yes" in " ".join(capsys.readouterr().err.split())
    assert main(["store", "verify", url, "--deep"]) == 0
    assert url in capsys.readouterr().err
    assert main(["store", "export", url, str(tmp_path / "out")]) == 0
    assert main(["store", "export", url, f"{bucket}/out"]) == 2
    assert "an export is a folder of this machine" in capsys.readouterr().err
    assert main(["store", "repair", url]) == 2
    how = f"emonet store repair NAME.zarr, and back: emonet store copy NAME.zarr {url} --force"
    assert how in " ".join(capsys.readouterr().err.split())
    objects = Objects.open(url)
    shard = objects.read("states/c/0/0/0")
    objects.write("states/c/0/0/0", shard[:-7])
    assert main(["store", "verify", url]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "its marker says" in told
    assert how in told
    assert main(["store", "copy", url, str(tmp_path / "back.zarr")]) == 1
    assert "shard 0 of the store is damaged" in capsys.readouterr().err
    mended = tmp_path / "mended.zarr"
    for key, _ in objects.list():
        (mended / key).parent.mkdir(parents=True, exist_ok=True)
        (mended / key).write_bytes(objects.read(key))
    assert main(["store", "repair", str(mended)]) == 0
    assert main(["store", "copy", str(mended), url, "--force"]) == 0
    assert main(["store", "verify", url, "--deep"]) == 0
    objects.delete(["clips.parquet"])
    capsys.readouterr()
    assert main(["store", "verify", url]) == 1
    assert main(["store", "info", url]) == 0
    assert " ".join(capsys.readouterr().err.split()).count(how) == 2


def test_no_credentials_and_no_bucket(
    s3: S3, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["store", "info", "s3://nobody-made-it/s.zarr"]) == 2
    assert "there is no such bucket" in capsys.readouterr().err
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["store", "info", "s3://nobody-made-it/s.zarr"]) == 2
    assert "no credentials" in capsys.readouterr().err
