from . import durable, signals
from .cluster import Cluster, connected, has_ray, is_shared, require_versions, versions
from .durable import replacing
from .exchange import remove
from .folders import Walk, count_suffixes, expanded, is_hidden, walk, working_folder
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
    "Cluster",
    "Group",
    "Parent",
    "Plugin",
    "Progress",
    "ShowProgress",
    "Uncut",
    "Walk",
    "available_bytes",
    "connected",
    "count_suffixes",
    "cpu_abilities",
    "durable",
    "ended_by_signal",
    "expanded",
    "generator",
    "has_bf16",
    "has_matrix_units",
    "has_ray",
    "heeded",
    "identity",
    "ignore",
    "installed_plugins",
    "is_dead",
    "is_hidden",
    "is_shared",
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
    "require_versions",
    "resident_bytes",
    "resolve_device",
    "resolve_precision",
    "seed_of",
    "shielded",
    "signals",
    "stamp",
    "unpacked",
    "versions",
    "walk",
    "working_folder",
]
