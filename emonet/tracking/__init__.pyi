from . import lineage
from .answers import answering, is_server, reason
from .connection import URI_VARIABLE, Server, ServerError, client, default_uri, location_of, reachable, repository
from .database import hidden, prepare, sqlite_path, sqlite_url
from .lineage import SOUND, Lineage, Overlap, overlap_with, trained_on
from .preflight import require_writable
from .relocation import ARTIFACTS, local_path
from .runs import Run, finished_below, record_run, require_experiment, run_exists, start_run, taken_up

__all__ = [
    "ARTIFACTS",
    "SOUND",
    "URI_VARIABLE",
    "Lineage",
    "Overlap",
    "Run",
    "Server",
    "ServerError",
    "answering",
    "client",
    "default_uri",
    "finished_below",
    "hidden",
    "is_server",
    "lineage",
    "local_path",
    "location_of",
    "overlap_with",
    "prepare",
    "reachable",
    "reason",
    "record_run",
    "repository",
    "require_experiment",
    "require_writable",
    "run_exists",
    "sqlite_path",
    "sqlite_url",
    "start_run",
    "taken_up",
    "trained_on",
]
