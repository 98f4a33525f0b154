"""Members of ensembles: experts of one target that differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Sequence


def member_ids(targets: Sequence[str], ensemble: int) -> tuple[str, ...]:
    """What members are called, target by target: the first as its target, the next ones `TARGET.2`, `TARGET.3`, ...

    A member's start and dropout are seeded by this name, so that the first is what its expert would be alone.

    Args:
        targets: ids.
        ensemble: members of each (count).
    """
    return tuple(
        f"{target}.{number}" if number > 1 else target for target in targets for number in range(1, ensemble + 1)
    )
