from . import durable, signals
from .durable import replacing
from .exchange import remove
from .folders import Walk, count_suffixes, expanded, is_hidden, walk
from .hardware import (
    Arithmetic,
    cpu_abilities,
    has_bf16,
    has_matrix_units,
    onednn_may_use,
    resolve_device,
    resolve_precision,
)
from .memory import available_bytes, resident_bytes
from .plugins import PLUGIN, Group, Plugin, installed_plugins, name_and_argument, pick_plugin, require_plugin
from .prefetch import prefetched
from .processes import identity, is_dead, place, stamp
from .progress import Progress, ShowProgress, ignore
from .seeds import generator, seed_of
from .signals import Uncut, ended_by_signal, heeded, leave_to_parent, shielded
from .subprocesses import Child, ChildDiedError, Parent, packed, unpacked

__all__ = [
    "PLUGIN",
    "Arithmetic",
    "Child",
    "ChildDiedError",
    "Group",
    "Parent",
    "Plugin",
    "Progress",
    "ShowProgress",
    "Uncut",
    "Walk",
    "available_bytes",
    "count_suffixes",
    "cpu_abilities",
    "durable",
    "ended_by_signal",
    "expanded",
    "generator",
    "has_bf16",
    "has_matrix_units",
    "heeded",
    "identity",
    "ignore",
    "installed_plugins",
    "is_dead",
    "is_hidden",
    "leave_to_parent",
    "name_and_argument",
    "onednn_may_use",
    "packed",
    "pick_plugin",
    "place",
    "prefetched",
    "remove",
    "replacing",
    "require_plugin",
    "resident_bytes",
    "resolve_device",
    "resolve_precision",
    "seed_of",
    "shielded",
    "signals",
    "stamp",
    "unpacked",
    "walk",
]
