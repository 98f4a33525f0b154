"""Agreement on costs: all that will be asked of paid services is estimated and told, and consented to once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emonet.clips import Clip
from emonet.errors import RequestError
from emonet.peers.costs import Consent, CostEstimate
from emonet.peers.opening import Peer
from emonet.peers.remote import RemoteScorer, Terms


def agree_on_costs(asked: Sequence[tuple[Peer, Iterable[Clip]]], terms: Terms, consent: Consent | None) -> None:
    """Estimate all that several peers will be asked before anything is sent; where it is more than may be spent, ask.

    What is agreed to, the peers that were opened on these terms may spend, up to twice the estimate. Answers that are
    kept cost nothing.

    Args:
        asked: peers, each with every clip that it will score; clips are taken one by one.
        terms: that the peers were opened on.
        consent: asked once, about all of it; None refuses.

    Raises:
        RequestError: if it would cost more than may be spent, and nobody agrees.
    """
    found: list[tuple[RemoteScorer, CostEstimate]] = []
    for peer, clips in asked:
        estimate = peer.estimate(clips) if peer.may_cost else None
        if estimate is not None and isinstance(peer.scorer, RemoteScorer):
            terms.say(f"{estimate.peer}: {estimate}")
            found.append((peer.scorer, estimate))
    purses = {id(scorer.purse): (scorer.purse, scorer.max_cost) for scorer, _ in found}
    over = []
    for key, (purse, limit) in purses.items():
        priced = [one for scorer, one in found if id(scorer.purse) == key and one.dollars is not None]
        unpriced = [one for scorer, one in found if id(scorer.purse) == key and one.dollars is None]
        sums = [CostEstimate.of_all(some) for some in (priced, unpriced) if some]
        over += [(purse, limit, one) for one in sums if not purse.covers(one, limit)]
    if not over:
        return
    total = CostEstimate.of_all([one for _, one in found])
    if consent is None or not consent(total):
        raise RequestError(
            "services would cost more than may be spent",
            expected="; ".join(f"at most {limit:.2f} US dollars for {one.peer}" for _, limit, one in over),
            found="; ".join(f"{one.peer}: {one}" for _, one in found),
            hint="--yes agrees to it, --max-cost DOLLARS to as much; nothing was sent (docs/benchmark-peers.md)",
        )
    for purse, _, one in over:
        purse.agree(one)
