from .costs import Estimate
from .opening import PEERS, Peer, open_peer
from .remote import Terms

__all__ = ["PEERS", "Estimate", "Peer", "Terms", "open_peer"]
