"""Fetch audio by URL from hosts that an operator named, and from nowhere else.

A server that fetches what its callers name can be turned against the network that it stands in (server-side request
forgery). So: no host that is not on the list, no address that is not public unless it is listed by number, one
connection to the very address that was checked, redirects only within the host, and bounds of size and time.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import SplitResult, urljoin, urlsplit

from emonet.errors import AudioError, RequestError

MOST_BYTES = 50_000_000
TIMEOUT = 10.0  # seconds without a byte
DEADLINE = 30.0  # seconds for the whole download
REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_REDIRECTING = frozenset((301, 302, 303, 307, 308))
_UNUSABLE = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Host:
    """A host that audio may come from.

    Args:
        name: a host name or an IP address, in lower case.
        port: the only one to use; None stands for 80 with http and 443 with https.
    """

    name: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Host:
        """Read `HOST` or `HOST:PORT`; an IPv6 address stands in brackets.

        Raises:
            RequestError: if it is something else, such as a URL or a pattern.
        """
        try:
            parts = urlsplit(f"//{text}")
            name, port = parts.hostname, parts.port
            valid = name is not None and parts.netloc == text and "@" not in text and not set("*?%\\, ") & set(text)
        except ValueError:
            valid, name, port = False, None, None
        if not valid or name is None:
            raise RequestError(
                "this is no host that URLs could be allowed from",
                where="allow_urls",
                expected="HOST or HOST:PORT, such as media.example.com or 127.0.0.1:9000",
                found=repr(text),
            )
        return cls(name, port)


def fetch(url: str, allowed: Sequence[Host], *, limit: int = MOST_BYTES, deadline: float = DEADLINE) -> bytes:
    """Download `url`.

    Args:
        url: of http or https.
        allowed: hosts that it may name.
        limit: the most to download (bytes).
        deadline: for all of it (seconds).

    Raises:
        AudioError: if the host is not allowed or has a private address, or the download fails or is too large.
    """
    end = time.monotonic() + deadline
    parts = _split(url)
    try:
        for _ in range(REDIRECTS + 1):
            with _connected(parts, allowed, end) as connection:
                response = _ask(connection, parts)
                if response.status not in _REDIRECTING:
                    return _body(response, limit, end)
                parts = _redirected(parts, response.headers.get("Location", ""))
    # No route, no such name (or one that is too long for a name), a bad certificate, a broken answer.
    except (OSError, HTTPException, UnicodeError) as error:
        _check_time(end)
        raise AudioError(f"cannot be fetched: {str(error) or type(error).__name__}", where=_short(parts)) from error
    raise AudioError(f"more than {REDIRECTS} redirects", where=_short(parts))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and not _UNUSABLE.search(url) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or not url.isascii():
        raise AudioError("this is no http or https URL that can be fetched", where=url[:200])
    return parts


@contextmanager
def _connected(parts: SplitResult, allowed: Sequence[Host], end: float) -> Iterator[HTTPConnection]:
    """A connection that is cut at `end`: a socket's own timeout counts from byte to byte, and bytes may come slowly."""
    connection = _connect(parts, allowed)
    timer = threading.Timer(max(0.0, end - time.monotonic()), _cut, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield connection
    finally:
        timer.cancel()
        connection.close()


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _check_time(end: float) -> None:
    if time.monotonic() >= end:
        raise AudioError("the download takes too long")


def _connect(parts: SplitResult, allowed: Sequence[Host]) -> HTTPConnection:
    """A connection to an address that was checked: a second look-up of the name could give another one."""
    name, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
    if not any(host.name == name and port == (host.port or _PORTS[parts.scheme]) for host in allowed):
        raise AudioError(
            f"URLs of {parts.netloc} are not allowed", where=_short(parts), hint="emonet serve --allow-urls HOST"
        )
    found = [str(address[0]) for *_, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    if not _is_number(name) and not all(_is_public(address) for address in found):
        raise AudioError(
            f"{name} has an address that is not public",
            where=_short(parts),
            hint="an address within a network is allowed only by its number: --allow-urls 10.0.0.5:9000",
        )
    sock = _reached(found, port)
    if parts.scheme == "https":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=name)
    connection = HTTPConnection(name, port)
    connection.sock = sock
    return connection


def _reached(addresses: Sequence[str], port: int) -> socket.socket:
    """A socket to the first address that answers: many hosts have one of IPv6, and many networks do not."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection((address, port), TIMEOUT)
    return socket.create_connection((addresses[-1], port), TIMEOUT)


def _ask(connection: HTTPConnection, parts: SplitResult) -> HTTPResponse:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Host": parts.netloc, "User-Agent": "emonet", "Accept": "audio/*, */*", "Accept-Encoding": "identity"}
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def _body(response: HTTPResponse, limit: int, end: float) -> bytes:
    if response.status != 200:
        raise AudioError(f"the host answered {response.status} {response.reason}")
    body = bytearray()
    while chunk := response.read1(1 << 16):
        body += chunk
        if len(body) > limit or (response.length or 0) > limit:
            raise AudioError(f"larger than {limit / 1e6:g} MB")
        _check_time(end)
    _check_time(end)
    if response.length:
        raise AudioError(f"the download ended {response.length:,} bytes too early")
    return bytes(body)


def _redirected(parts: SplitResult, location: str) -> SplitResult:
    target = _split(urljoin(parts.geturl(), location))
    if target.hostname != parts.hostname or (parts.scheme, target.scheme) == ("https", "http"):
        raise AudioError(f"redirects to {target.scheme}://{target.netloc}, which is not followed", where=_short(parts))
    return target


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    disguised = isinstance(address, ipaddress.IPv6Address) and bool(
        address.ipv4_mapped or address.sixtofour or address.teredo or address.is_site_local
    )  # an IPv4 address, or one of a network that calls itself public (fec0::/10, deprecated)
    # What is reserved holds other IPv4 addresses: ::/96 and those of NAT64.
    return address.is_global and not (address.is_multicast or address.is_reserved or disguised)


def _short(parts: SplitResult) -> str:
    """The URL without its query, which may hold a signature."""
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:200]
