"""ELAN's .eaf: annotations in tiers, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from xml.etree import ElementTree as ET

from emonet.segments.lanes import lanes
from emonet.segments.reading import Reading, one_line
from emonet.segments.segment import Segment
from emonet.tables import as_number

_TYPE = "default-lt"
_UNNAMED = "segments"
_DATE = "1970-01-01T00:00:00+00:00"  # ELAN wants one; without the clock, the same segments are the same file


def read_eaf(text: str, reading: Reading) -> None:
    """Take annotations that are aligned with time; a tier's participant, else its name, is the speaker."""
    try:
        root = ET.fromstring(text)  # noqa: S314 expat refuses entities that blow up since 2.4.1, of 2021
    except ET.ParseError as error:
        reading.problems.add(f"line {error.position[0]}", f"not XML: {error.msg.partition(':')[0]}")
        return
    times = {slot.get("TIME_SLOT_ID"): as_number(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    for tier in root.iter("TIER"):
        speaker = tier.get("PARTICIPANT") or tier.get("TIER_ID") or ""
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            place = f"annotation {one.get('ANNOTATION_ID')}"
            start, end = (times.get(one.get(f"TIME_SLOT_REF{which}")) for which in (1, 2))
            if start is None or end is None:
                reading.problems.add(place, "its times are not known", "times")
                continue
            named = "" if speaker == _UNNAMED else speaker
            reading.add(place, start / 1000, end / 1000, speaker=named, text=one.findtext("ANNOTATION_VALUE") or "")


def eaf_text(segments: Sequence[Segment], recording: str, seconds: float) -> str:  # noqa: ARG001 as other formats
    """Segments as a document of ELAN: a tier for each speaker, and more where a speaker's segments overlap."""
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "emonet",
            "DATE": _DATE,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if recording:
        ET.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=recording, MIME_TYPE="audio/x-wav")
    order = ET.SubElement(root, "TIME_ORDER")
    numbers, names = count(1), dict[str, int]()
    for speaker, lane in lanes(segments):
        participant = one_line(speaker)
        tier = ET.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_TYPE, TIER_ID=_unique(participant or _UNNAMED, names))
        tier.set("PARTICIPANT", participant or _UNNAMED)
        for one in lane:
            _annotate(tier, order, one, next(numbers))
    ET.SubElement(root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID=_TYPE, TIME_ALIGNABLE="true", GRAPHIC_REFERENCES="false")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _annotate(tier: ET.Element, order: ET.Element, one: Segment, number: int) -> None:
    start = round(1000 * one.start)
    slots = {f"ts{2 * number - 1}": start, f"ts{2 * number}": max(round(1000 * one.end), start + 1)}
    for slot, time in slots.items():
        ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
    first, last = slots
    holder = ET.SubElement(tier, "ANNOTATION")
    marks = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": first, "TIME_SLOT_REF2": last}
    annotation = ET.SubElement(holder, "ALIGNABLE_ANNOTATION", marks)
    ET.SubElement(annotation, "ANNOTATION_VALUE").text = one_line(one.text)


def _unique(name: str, taken: dict[str, int]) -> str:
    """The name of a tier, which ELAN has once: numbered from the second on.

    Args:
        name: that is wanted.
        taken: names that there are -> the last number that each was given.
    """
    for number in count(taken.get(name, 0) + 1):
        found = name if number == 1 else f"{name} {number}"
        if found not in taken:
            break
    taken[name] = number
    taken.setdefault(found, 1)
    return found
