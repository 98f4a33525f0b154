"""The page at `/` and what it loads: one file, in the reader's language, whose policy lets nothing else in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache, partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from emonet import pages
from emonet.serving.service import PATHS, state_of
from emonet.serving.settings import ServerSettings
from emonet.timelines import VIEW
from emonet.version import __version__

ABOUT = (
    "Fine-grained emotions out of voice recordings. A body is a form with files, JSON with base64, or audio itself. "
    "Live sound: the WebSocket /v1/stream."
)
PAGE = "emonet.serving.page"
NAMES = {"en": "English", "de": "Deutsch"}
FORMATS = ("csv", "json", "vtt", "srt", "html", "png", "parquet", "eaf", "TextGrid", "rttm")
_CALLED = {
    "csv": "CSV",
    "json": "JSON",
    "vtt": "WebVTT",
    "srt": "SRT",
    "parquet": "Parquet",
    "eaf": "ELAN",
    "rttm": "RTTM",
}
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)  # scripts with a type are data
_SAFE = {
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self)",
    "Cache-Control": "no-cache",
}
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Built:
    """A page as it is sent.

    Args:
        html: its bytes.
        packed: the same with gzip.
        policy: its Content-Security-Policy.
        tag: changes with it.
    """

    html: bytes
    packed: bytes
    policy: str
    tag: str


@router.get("/")
async def index(request: Request, lang: str = "") -> Response:
    """The page for browsers; what else asks is told the paths."""
    headers = {"Vary": "Accept, Accept-Language, Accept-Encoding", **_SAFE}
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"emonet": __version__, "paths": sorted(PATHS - {"/"}), "about": ABOUT}, headers=headers)
    language = lang if lang in NAMES else language_of(request.headers.get("accept-language", ""))
    page = built(language, state_of(request.app).settings)
    headers |= {"ETag": page.tag, "Content-Security-Policy": page.policy, "Content-Language": language}
    if page.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(page.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type="text/html")
    return Response(page.html, headers=headers, media_type="text/html")


@router.get("/page/capture.js")
async def capture() -> Response:
    """What the microphone's thread runs: a browser takes that from an address only."""
    return Response(_capture(), headers=_SAFE, media_type="text/javascript")


def language_of(header: str) -> str:
    """The language of ours that Accept-Language wants most; the first one where it wants none of them."""
    wanted = []
    for place, part in enumerate(header.split(",")):
        name, _, weight = part.strip().lower().partition(";q=")
        share = float(weight) if re.fullmatch(r"[01](\.\d*)?", weight) else 1.0
        wanted.append((-share, place, name.partition("-")[0]))
    return next((name for share, _, name in sorted(wanted) if share and name in NAMES), pages.LANGUAGES[0])


@lru_cache(maxsize=8)
def built(language: str, settings: ServerSettings) -> Built:
    """The page in a language, with the server's limits."""
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    words = {**pages.words(VIEW, language), **pages.words(PAGE, language)}
    megabytes, minutes = (
        f"{value:g}".replace(".", words["point"]) for value in (settings.max_megabytes, settings.max_minutes)
    )
    told = {"words": words, "limits": {"bytes": settings.most_bytes, "seconds": 60 * settings.max_minutes}}
    dumps = partial(json.dumps, separators=(",", ":"), ensure_ascii=False)
    called = {**_CALLED, "html": words["page"], "png": words["picture"]}
    html = pages.render(
        PAGE,
        "index.html",
        parts={"view": VIEW},
        language=language,
        languages=NAMES.items(),
        words={**words, "limits": words["limits"].format(megabytes, minutes)},
        formats=[(name, called.get(name, name)) for name in FORMATS],
        told=htmlsafe_json_dumps(told, dumps=dumps),
        script=Markup(pages.text(VIEW, "timeline.js") + pages.text(PAGE, "page.js")),  # noqa: S704 - our own files
    ).encode()
    tag = f'"{hashlib.sha256(html).hexdigest()[:16]}"'
    return Built(html, gzip.compress(html, 9), policy_of(html.decode()), tag)


def policy_of(html: str) -> str:
    """The policy of a page: its own scripts and styles by their hashes, this server, and nothing else."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    parts = {
        "default-src": "'none'",
        "script-src": f"'self' {' '.join(hashes['script'])}",  # 'self': capture.js
        "style-src": " ".join(hashes["style"]),
        "connect-src": "'self'",
        "img-src": "data:",
        "media-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


@lru_cache(maxsize=1)
def _capture() -> str:
    return pages.text(PAGE, "capture.js")
