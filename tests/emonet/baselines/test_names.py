from __future__ import annotations

from typing import get_args

import pytest

from emonet.baselines import ABOUT, chosen_baselines, licence_of
from emonet.baselines.names import MOST_CLIPS, OPENSMILE
from emonet.configs import BaselineChoice
from emonet.errors import RequestError

ALWAYS = ("median", "mel_ridge")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.usefixtures("installed")
def test_auto_has_all_of_opensmile_where_it_is_installed() -> None:
    assert chosen_baselines(["auto"], 100) == (*ALWAYS, *OPENSMILE)
    assert chosen_baselines(["whisper_last_mean", "auto"], 100) == (*ALWAYS, *OPENSMILE, "whisper_last_mean")


@pytest.mark.usefixtures("installed")
def test_very_many_clips_are_heard_by_opensmile_only_where_it_is_named() -> None:
    assert chosen_baselines(["auto"], MOST_CLIPS + 1) == ALWAYS
    assert chosen_baselines(["auto", "egemaps_svr"], MOST_CLIPS + 1) == (*ALWAYS, "egemaps_svr")


@pytest.mark.usefixtures("missing")
def test_without_opensmile_auto_does_without_and_a_name_is_refused() -> None:
    assert chosen_baselines(["auto"], 100) == chosen_baselines([], 100) == ALWAYS
    with pytest.raises(
        RequestError, match=r"(?s)compare2016_svr: openSMILE is not installed.*emonet\[opensmile\].*non-"
    ):
        chosen_baselines(["auto", "compare2016_svr"], 100)


def test_every_choice_is_described_and_opensmile_has_a_licence() -> None:
    assert set(get_args(BaselineChoice)) - {"auto"} <= set(ABOUT)
    assert licence_of(["median", "mel_ridge", "states_ridge", "whisper_last_mean"]) is None
    assert all("non-commercial" in (licence_of(["median", name]) or "") for name in OPENSMILE)
