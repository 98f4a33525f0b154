"""Corpora by name: `sandbox`, `ravdess:PATH`, `emodb:PATH`, `manifest:FILE`, joined with `+`."""

from emonet.corpora.emodb import open_emodb
from emonet.corpora.manifest import open_manifest
from emonet.corpora.opening import open_corpus
from emonet.corpora.ravdess import open_ravdess
from emonet.corpora.report import CorpusReport, describe
from emonet.corpora.sandbox import open_sandbox

__all__ = [
    "CorpusReport",
    "describe",
    "open_corpus",
    "open_emodb",
    "open_manifest",
    "open_ravdess",
    "open_sandbox",
]
