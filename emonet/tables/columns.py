"""Columns whose names are spelled in many ways."""

from __future__ import annotations

AUDIO_NAMES = frozenset(  # what others call the column `audio`: audformat, Hugging Face, NeMo ...
    {"file", "path", "filename", "file_name", "filepath", "file_path", "wav", "wav_path", "recording", "wav_file"}
    | {"audio_path", "audio_file", "audio_filename", "audio_filepath"}
)


def names_audio(column: str) -> bool:
    """Whether a column is called as those are that name or hold recordings."""
    name = column.strip().casefold()
    return name == "audio" or name in AUDIO_NAMES
