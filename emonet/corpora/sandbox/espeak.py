"""espeak-ng through ctypes: text and voice settings to samples, the same bytes on every call.

The library keeps state from one utterance to the next (the phase of the voice, echoes, flutter) that neither a
new voice nor `espeak_Terminate` resets, and seeds its breath noise from the clock. So each utterance is spoken by
a library that was just loaded, with a seed of ours, and unloaded afterwards: about 6 ms on a 2-core machine.

espeak-ng is GPL-3. It is loaded only while the sandbox corpus is synthesised, in worker processes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from emonet.errors import EmonetError

SAMPLE_RATE = 22_050  # Hz, mono: the rate of espeak-ng's own data
# From speak_lib.h of espeak-ng 1.52
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Speech:
    """What espeak-ng is asked to say, and how.

    Args:
        text: plain text, UTF-8.
        voice: language and variant, e.g. `en-us+f3`.
        rate: words per minute, 80 to 450; 175 is normal.
        pitch: 0 to 99; 50 is the voice's own.
        range: how far the pitch moves, 0 to 99; 50 is normal, 0 monotone.
        word_gap: pause between words, in 10 ms at the normal rate.
    """

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    range: int = 50
    word_gap: int = 0


def speak(speech: Speech) -> Int16[np.ndarray, " samples"]:
    """Samples at 22.05 kHz, mono.

    Raises:
        EmonetError: if the library is not installed, does not know the voice, refuses a setting, or says
            nothing.
    """
    blocks: list[Int16[np.ndarray, " samples"]] = []

    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on

    callback = _CALLBACK(collect)  # kept here, or it is collected while the library holds it
    _require_voice(speech.voice)
    text = speech.text.encode() + b"\0"
    with _fresh_library() as library:
        library.espeak_SetSynthCallback(callback)
        _check("espeak_SetVoiceByName", library.espeak_SetVoiceByName(speech.voice.encode()), speech.voice)
        settings = {
            _RATE: speech.rate,
            _PITCH: speech.pitch,
            _RANGE: speech.range,
            _WORD_GAP: speech.word_gap,
        }
        for parameter, value in settings.items():
            _check("espeak_SetParameter", library.espeak_SetParameter(parameter, value, 0), (parameter, value))
        _check("espeak_Synth", library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None), speech.text)
        _check("espeak_Synchronize", library.espeak_Synchronize(), speech.text)
    if not any(block.any() for block in blocks):
        raise EmonetError("espeak-ng said nothing", where=speech.voice, found=repr(speech.text))
    return np.concatenate(blocks)


def version() -> str:
    """Version of the installed `espeakng-loader`, without loading the library.

    Raises:
        EmonetError: if it is not installed.
    """
    from importlib import metadata

    try:
        return metadata.version("espeakng-loader")
    except metadata.PackageNotFoundError as error:
        raise _missing() from error


def _missing() -> EmonetError:
    return EmonetError(
        "the sandbox corpus needs espeak-ng, which is not installed",
        expected="the package espeakng-loader (GPL-3)",
        found="no such package",
        hint="pip install 'emonet[sandbox]'",
    )


@cache
def _locations() -> tuple[Path, Path]:
    """The shared library and its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise _missing() from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _require_voice(voice: str) -> None:
    """Refuse an unknown variant: espeak-ng itself would quietly speak without it."""
    variant = voice.partition("+")[2]
    if variant and not (_locations()[1] / "voices" / "!v" / variant).is_file():
        raise EmonetError("espeak-ng has no such voice variant", where=voice, found=variant)


@contextmanager
def _fresh_library() -> Iterator[Any]:
    """The library in its initial state; unloading is what resets it."""
    import _ctypes  # ctypes itself offers no way to unload

    path, data = _locations()
    library = ctypes.CDLL(str(path))
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
        ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    try:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise EmonetError("espeak-ng does not start", where=data, expected=f"{SAMPLE_RATE} Hz", found=rate)
        _check("espeak_ng_SetRandSeed", library.espeak_ng_SetRandSeed(ctypes.c_long(1)), 1)
        yield library
        _check("espeak_Terminate", library.espeak_Terminate(), path)
    finally:
        # Windows unloads by another name.
        unload = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]
        unload(library._handle)


def _check(call: str, code: int, argument: object) -> None:
    """Turn an error code into an exception; 0 is success in every call of the library."""
    if code != 0:
        raise EmonetError(f"espeak-ng refuses {call}", where=argument, expected="code 0", found=f"code {code}")
