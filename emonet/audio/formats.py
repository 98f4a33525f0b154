"""Suffixes of audio files: which of them are read, and which are known to hold sound that nothing here decodes."""

from __future__ import annotations

_LIBSNDFILE = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".mp1", ".mp2", ".mp3", ".mpga", ".ogg", ".oga", ".opus"}
    | {".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc", ".sph", ".nist", ".avr", ".paf", ".pvf", ".sds"}
    | {".sd2", ".svx", ".8svx", ".wve", ".ircam"}
)
_FFMPEG = frozenset(
    {".m4a", ".m4b", ".m4r", ".m4v", ".mp4", ".aac", ".webm", ".weba", ".mka", ".mkv", ".mov", ".avi", ".flv", ".f4v"}
    | {".3gp", ".3g2", ".amr", ".awb", ".wma", ".wmv", ".asf", ".ra", ".rm", ".spx", ".ogv", ".ogx", ".mpg", ".mpeg"}
    | {".vob", ".mts", ".m2ts", ".ape", ".wv", ".mpc", ".tta", ".tak", ".shn", ".ac3", ".eac3", ".dts", ".dsf", ".dff"}
    | {".gsm", ".dss", ".qcp", ".oma"}
)

READ = _LIBSNDFILE | _FFMPEG
"""What is taken out of a folder to be decoded."""

REFUSED = frozenset({".ofr", ".alac", ".raw", ".pcm", ".vox", ".g722", ".ds2", ".aa", ".aax", ".at3", ".evs", ".silk"})
"""What holds sound as well, but is refused when it is opened: a folder's files of these are reported one by one."""

AUDIO = READ | REFUSED
