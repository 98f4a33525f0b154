from __future__ import annotations

from emonet.runtime import generator, seed_of


def test_numbers_depend_on_every_part_and_stay_the_same() -> None:
    assert seed_of(0, "caption", 1, "a") == 8495778404565010364
    assert len({seed_of(seed, word, epoch) for seed in (0, 1) for word in "ab" for epoch in (0, 1)}) == 8
    assert seed_of("ab", "c") != seed_of("a", "bc")
    assert generator(1, "x").random() == generator(1, "x").random()
