from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.store import FeatureStore
from datamodules.expert_inputs import spec_of
from emonet.configs import HeadsConfig
from emonet.errors import EmonetError
from lightningmodules.experts import TrainingRequest, join_parts


def test_parts_of_another_training_are_told_by_folder(make_store: Callable[..., FeatureStore], tmp_path: Path) -> None:
    store, config = make_store(clips=(3, 2, 2)), HeadsConfig(ensemble=2)
    wanted = TrainingRequest(store, spec_of(store, "statistics", config), ("anger", "fear"), config, 0)
    folders = [tmp_path / f"heads-0000{index}-of-00002/statistics" for index in range(2)]
    for folder, target in zip(folders, ("anger", "awe"), strict=True):
        folder.mkdir(parents=True)
        (folder / "part.json").write_text(json.dumps({"best_epoch": {target: 1, f"{target}.2": 0}}))
    with pytest.raises(
        EmonetError, match=r"(?s)part of the experts is of another training.*fear, fear\.2.*awe, awe\.2"
    ) as told:
        join_parts(wanted, folders)
    assert f"where:    {folders[1]}" in str(told.value)
    assert f"rm -r {folders[1].parent}*," in str(told.value)
