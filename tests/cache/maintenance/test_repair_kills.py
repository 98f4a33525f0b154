"""A repair that is killed leaves a store that nobody takes for whole."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache.maintenance import Sources, repair, verify
from cache.store import shard_file
from emonet.encoders import FrozenEncoder
from emonet.errors import RequestError
from tests.cache.maintenance.damage import Made, contents, copied, flip, nothing_shown

ROOT = Path(__file__).parents[3]
KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from tests.cache.maintenance.test_repair_kills import killed_repairs; killed_repairs(*sys.argv[2:])
"""


def killed_repairs(corpus: str, encoder: str, *paths: str) -> None:
    """Repair each store in a process of its own; this one imports and loads what they need once."""
    loaded = FrozenEncoder.load(encoder, precision="float32", device="cpu")
    sources = Sources(lambda record: pickle.loads(Path(corpus).read_bytes()), lambda record: loaded)
    for path in paths:
        child = os.fork()
        if not child:
            killed_repair(path, int(Path(path).parent.name), sources)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def killed_repair(path: str, moment: int, sources: Sources) -> None:
    """Repair, and die just before removing or renaming the file of that number."""
    left = moment

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in {"os.remove", "os.rename"} and str(arguments[0]).startswith(path):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    repair(Path(path), sources, nothing_shown)


# Before: a second marker, the table are removed; a shard, its marker, another shard, the table are put in place.
MOMENTS = (1, 2, 3, 5, 7, 11)


@pytest.mark.slow
def test_killed_at_any_moment_it_is_never_taken_for_whole(
    whole: Callable[..., Made], tiny_encoder: Path, tmp_path: Path
) -> None:
    before, stores = contents(whole().path), []
    for moment in MOMENTS:
        made = copied(whole(), tmp_path / str(moment))
        flip(shard_file(made.path, 1), 40)
        flip(shard_file(made.path, 2), 40)
        stores.append(made)
    (tmp_path / "corpus").write_bytes(pickle.dumps(whole().corpus))
    subprocess.run(
        [sys.executable, "-c", KILLED, ROOT, tmp_path / "corpus", tiny_encoder, *(made.path for made in stores)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    for made in stores:
        assert is_named(made.path)
        assert made.repair().exit_code == 0  # what the user types next gives the store as it was
        assert contents(made.path) == before
        assert not list(made.path.parent.glob("*.partial"))


def is_named(path: Path) -> bool:
    """Whether a look at the store tells that it is not whole."""
    try:
        return verify(path, deep=True).exit_code == 1
    except RequestError as error:
        return "did not finish" in str(error)
