from . import console
from .auto_window import with_window
from .champion import tell_version
from .config import Experiment, load, read_labels, refuse_flags, shipped
from .console import counted, progress, say
from .corpora import open_experiments_corpus, open_quietly, open_spec, rejected
from .decorating import decoration
from .encoder_source import identity_of, named_encoder
from .local_server import check_port, serve_until_interrupted
from .page import INDEX, render
from .sounds import show_sounds
from .stage import StageContext, StageResult, read_result, require_result, resolve_source, run_stage, write_text
from .sweep_config import (
    HIGHER,
    SECTIONS,
    Dimension,
    Objective,
    SweepConfig,
    SweepStage,
    merged,
    space_of,
    storage_of,
    value_at,
    whole,
)

__all__ = [
    "HIGHER",
    "INDEX",
    "SECTIONS",
    "Dimension",
    "Experiment",
    "Objective",
    "StageContext",
    "StageResult",
    "SweepConfig",
    "SweepStage",
    "check_port",
    "console",
    "counted",
    "decoration",
    "identity_of",
    "load",
    "merged",
    "named_encoder",
    "open_experiments_corpus",
    "open_quietly",
    "open_spec",
    "progress",
    "read_labels",
    "read_result",
    "refuse_flags",
    "rejected",
    "render",
    "require_result",
    "resolve_source",
    "run_stage",
    "say",
    "serve_until_interrupted",
    "shipped",
    "show_sounds",
    "space_of",
    "storage_of",
    "tell_version",
    "value_at",
    "whole",
    "with_window",
    "write_text",
]
