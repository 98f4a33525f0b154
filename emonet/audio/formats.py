"""Suffixes of audio files: which of them are read, and which are known to be audio that libsndfile does not read."""

from __future__ import annotations

READ = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".mp1", ".mp2", ".mp3", ".mpga", ".ogg", ".oga", ".opus"}
    | {".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc", ".sph", ".nist", ".avr", ".paf", ".pvf", ".sds"}
    | {".sd2", ".svx", ".8svx", ".wve", ".ircam"}
)
"""What is taken out of a folder to be decoded."""

REFUSED = frozenset(
    {".m4a", ".m4b", ".m4r", ".mp4", ".aac", ".webm", ".weba", ".mka", ".mkv", ".mov", ".avi", ".flv", ".3gp", ".3g2"}
    | {".wma", ".asf", ".amr", ".awb", ".ra", ".rm", ".spx", ".ape", ".wv", ".mpc", ".tta", ".tak", ".shn", ".ofr"}
    | {".ac3", ".eac3", ".dts", ".dsf", ".dff", ".alac", ".raw", ".pcm", ".vox", ".gsm", ".g722", ".dss", ".ds2"}
    | {".qcp", ".aa", ".aax", ".at3", ".oma", ".evs", ".silk"}
)
"""What holds sound as well, but is refused when it is opened: a folder's files of these are reported one by one."""

AUDIO = READ | REFUSED
