"""URLs of object stores, told from paths of this machine; hosts that are this machine."""

from __future__ import annotations

import ipaddress
import os
import re

from emonet.errors import RequestError

BUCKETS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")  # that obstore opens
HUBS = ("hf",)
WEB = ("http", "https")
_KNOWN = (*BUCKETS, *HUBS, *WEB)
_WEB_ADDRESS = re.compile(r"https?:/", re.IGNORECASE)
_QUERY = re.compile(r"[?#]")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# pathlib makes one slash of two: "s3:/bucket/path" is what a URL that was taken for a path looks like afterwards.
_ONE_SLASH = re.compile(rf"({'|'.join(_KNOWN)}):/(?!/)", re.IGNORECASE)


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether a location is a URL, not a path of this machine (Windows drives and `file:` are such paths)."""
    text = os.fspath(location)
    found = _URL.match(text)
    return bool(_ONE_SLASH.match(text)) or (found is not None and found[1].lower() != "file")


def without_query(location: str) -> str:
    """A location without what a web address has behind its path: of other locations `?` and `#` are a part."""
    return _QUERY.split(location, maxsplit=1)[0] if _WEB_ADDRESS.match(location) else location


def is_loopback(host: str) -> bool:
    """Whether a host, by its name or number, is this machine alone: no other one reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def split(url: str | os.PathLike[str]) -> tuple[str, str, str]:
    """Scheme (small letters), bucket and path (without slashes at its ends, with the query of a web address) of a URL.

    Raises:
        RequestError: if it names no bucket, or is none of a known store.
    """
    text = _ONE_SLASH.sub(r"\1://", os.fspath(url), count=1)
    place = without_query(text)
    scheme, _, rest = place.partition("://")
    bucket, _, path = rest.partition("/")
    path = path.lstrip("/") if place != text else path.strip("/")  # of an address with a query the last slash is a part
    if scheme.lower() not in _KNOWN:
        expected = "s3://, gs:// or az://BUCKET/PATH, hf://datasets/USER/NAME/PATH, https://HOST/PATH"
        raise RequestError("this is the URL of no object store", where=text, expected=expected)
    if not bucket:
        raise RequestError("the URL names no bucket", where=text, expected=f"{scheme}://BUCKET/PATH")
    if any(part in ("", ".", "..") for part in path.rstrip("/").split("/") if path):
        raise RequestError("the URL's path has empty or dotted parts", where=text, expected=f"{scheme}://BUCKET/PATH")
    return scheme.lower(), bucket, path + text.removeprefix(place)
