"""What stands in a table's cells: missing values, text, numbers, and seconds in whatever way programs write them."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any

from emonet.names import as_text

_MISSING = frozenset(  # what programs and people write for a value that is not there, in lower case
    {"", "nan", "-nan", "+nan", "na", "n/a", "n.a.", "n. a.", "nat", "null", "none", "<na>", "<nan>", "<null>"}
    | {"#n/a", "#na", "#n/a n/a", "1.#qnan", "-1.#ind", "1.#ind", "-1.#qnan", "-", "--", "---", "–", "—"}
    | {"?", ".", "\\n"}
)
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
# `0 days 00:00:01.5` of pandas, `1 day, 0:00:01.5` of Python, `00:01:02,5` of subtitles, `1:02.5`
_CLOCK = re.compile(
    r"(?:(?P<days>[+-]?\d+) ?d(?:ays?)?,?)?"
    r"(?: *(?P<sign>[+-]?)(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:[.,]\d*)?))?"
)
_ISO = re.compile(
    r"(?P<sign>-?)p(?:(?P<days>[+-]?\d+)d)?(?:t(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+(?:[.,]\d*)?)s)?)?"
)
_UNIT = re.compile(r"(?P<number>[+-]?\d*\.?\d+(?:e[+-]?\d+)?) ?(?P<unit>[a-zµμ]+)")
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_PARTS = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def is_missing(value: object) -> bool:
    """Whether a cell says that there is no value."""
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    # NaN, and pandas' NaT, are not equal to themselves.
    return value is None or (not isinstance(value, bytes | list | dict) and bool(value != value))


def as_name(value: object) -> str | None:
    """A cell as an id or a speaker: a number that is whole is written as an integer, however the table holds it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = as_cell_text(value)
    whole = None if text is None else _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def as_cell_text(value: object) -> str | None:
    """A cell as text without spaces around it; numbers count as text. None if it is something else."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return None if isinstance(value, bool | list | dict) else as_text(str(value).strip())


def as_number(value: Any) -> float | None:
    """A cell as a finite number; None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and value is not True and value is not False else None


def as_seconds(value: Any) -> float | None:
    """A cell as seconds: a number, a time span, a time of the clock (hours, minutes and seconds), or a unit's number.

    Returns:
        Seconds, below 0 where the span is; None if the cell is nothing of these.
    """
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, dt.time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if (number := as_number(value)) is not None or not isinstance(value, str):
        return number
    text = " ".join(value.casefold().split())
    if (match := _UNIT.fullmatch(text)) and match["unit"] in _UNITS:
        return round(float(match["number"]) * _UNITS[match["unit"]], 9)
    match = _CLOCK.fullmatch(text) or _ISO.fullmatch(text)
    parts = {} if match is None else match.groupdict()
    if match is None or not any(parts[name] for name in _PARTS):
        return None
    sign = -1.0 if parts["sign"] == "-" else 1.0
    amounts = {name: float((parts[name] or "0").replace(",", ".")) * size for name, size in _PARTS.items()}
    # In `-1 days +23:59:59` the sign is the days' alone; in ISO 8601 and without days it is that of everything.
    apart = parts["days"] is not None and not text.lstrip("-").startswith("p")
    days = amounts.pop("days")
    return round(days + sign * sum(amounts.values()) if apart else sign * (days + sum(amounts.values())), 9)
