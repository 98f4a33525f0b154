from .costs import CostEstimate
from .opening import PEERS, Peer, open_peer
from .remote import Terms

__all__ = ["PEERS", "CostEstimate", "Peer", "Terms", "open_peer"]
