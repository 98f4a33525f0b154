from .callbacks import Notices
from .locks import StoreLocks
from .shard_writer import ShardSink, clip_digest, joined_digest
from .silent_output import SilenceMeter, sample
from .writer import Part, StoreWriter, Written, written_at

__all__ = [
    "Notices",
    "Part",
    "ShardSink",
    "SilenceMeter",
    "StoreLocks",
    "StoreWriter",
    "Written",
    "clip_digest",
    "joined_digest",
    "sample",
    "written_at",
]
