from __future__ import annotations

import pytest

from emonet.configs import Layers
from emonet.encoders.layers import resolve_layers
from emonet.errors import RequestError


@pytest.mark.parametrize(
    ("wanted", "depth", "expected"),
    [
        ("last", 6, (6,)),
        ("all", 4, (1, 2, 3, 4)),
        ("middle", 1, (1,)),
        ("middle", 2, (1, 2)),
        ("middle", 4, (1, 2, 3)),
        ("middle", 6, (2, 3, 4, 5)),
        ("middle", 12, (4, 5, 6, 7, 8, 9, 10)),
        ("middle", 24, tuple(range(8, 21))),
        ("middle", 32, tuple(range(11, 28))),
        ((5, 3, 3), 6, (3, 5)),
    ],
)
def test_layers_by_name_and_number(wanted: Layers, depth: int, expected: tuple[int, ...]) -> None:
    assert resolve_layers(wanted, depth) == expected


@pytest.mark.parametrize("wanted", [(7,), (0, 3), (-1,), ()])
def test_a_layer_that_does_not_exist(wanted: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"(?s)no such layer.*there/whisper.*1 to 6; or last, middle, all") as caught:
        resolve_layers(wanted, 6, where="there/whisper")
    assert (" ".join(map(str, wanted)) or "none") in str(caught.value)


def test_a_layer_that_was_not_kept() -> None:
    assert resolve_layers((2, 3), 6, there=3) == (2, 3)
    with pytest.raises(RequestError, match=r"1 to 3 \(of 6; the others were not kept\)"):
        resolve_layers("last", 6, there=3)
