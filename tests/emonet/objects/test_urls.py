from __future__ import annotations

from pathlib import Path

import pytest

from emonet.errors import RequestError
from emonet.objects import Objects, is_loopback, is_url, without_query


@pytest.mark.parametrize(
    "location",
    [
        "s3://b/x",
        "S3://b/x",
        "gs://b",
        "az://c/x",
        "hf://datasets/a/b",
        "https://h/x",
        Path("s3://b/x"),
        "abfss://c@a/x",
    ],
)
def test_urls_are_told(location: str | Path) -> None:
    assert is_url(location)


@pytest.mark.parametrize(
    "location",
    [
        "clips",
        "/data/s3",
        "C:\\clips",
        "C:/clips",
        "file:///data",
        "file:/data",
        "emodb:/data/emodb",
        "",
        "s3",
        "a:b/c",
    ],
)
def test_paths_are_none(location: str) -> None:
    assert not is_url(location)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("ftp://host/x", "no object store"),
        ("s3://b/../x", "dotted parts"),
        ("s3://b/x//y", "dotted parts"),
    ],
)
def test_wrong_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Objects.open(url)


def test_queries_belong_to_addresses_of_the_web_alone() -> None:
    for url in ("https://h/a/b.csv?to=../x//y", "http://h/a/b.csv#x/../y/"):
        assert without_query(url) == f"{url[:4]}{'s' if url[4] == 's' else ''}://h/a/b.csv"
        assert Objects.open(url).url == url
    for other in ("s3://b/a?b#c", "a?b#c", "hf://datasets/a/b?c"):
        assert without_query(other) == other
    assert Objects.open("https://h/download/?id=5").url == "https://h/download/?id=5"
    with pytest.raises(RequestError, match="dotted parts"):
        Objects.open("https://h/../x?y")


def test_hosts_that_are_this_machine() -> None:
    hosts = ("127.0.0.1", "::1", "localhost", "Localhost", "127.8.0.1", "10.0.0.1", "example.com", "")
    assert [is_loopback(one) for one in hosts] == [True, True, True, True, True, False, False, False]
