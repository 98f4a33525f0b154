from .agreement import agree_on_costs
from .costs import Consent, CostEstimate
from .hume_form import HUME_NAMES, Utterance, hume_names, hume_source
from .opening import PEERS, Peer, open_peer
from .remote import Terms

__all__ = [
    "HUME_NAMES",
    "PEERS",
    "Consent",
    "CostEstimate",
    "Peer",
    "Terms",
    "Utterance",
    "agree_on_costs",
    "hume_names",
    "hume_source",
    "open_peer",
]
