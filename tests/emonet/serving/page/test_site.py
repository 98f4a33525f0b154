"""The page as it is sent: its headers, its languages, and what it may load."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser
from string import Formatter
from typing import Any

import pytest
import requests

from emonet.pages import LANGUAGES, text, words
from emonet.serving import EmotionServer, ServerSettings
from emonet.serving.page.site import NAMES, PAGE, built, language_of
from emonet.targets import PUBLISHED
from emonet.timelines.views import VIEW

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def get(server: EmotionServer, path: str = "/", **headers: str) -> requests.Response:
    return requests.get(server.address + path, headers={**BROWSER, **headers}, timeout=20)


def leaves(content: Any, place: str = "") -> dict[str, str]:
    """Every sentence by where it stands."""
    if isinstance(content, str):
        return {place: content}
    return {key: one for name, part in content.items() for key, one in leaves(part, f"{place}.{name}").items()}


def test_browsers_get_the_page_and_programs_the_paths(server: EmotionServer) -> None:
    answer = get(server)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert set(answer.headers["vary"].split(", ")) == {"Accept", "Accept-Language", "Accept-Encoding"}
    told = requests.get(f"{server.address}/", timeout=20)
    assert "/v1/export" in told.json()["paths"]


def test_the_policy_lets_in_what_the_page_is_made_of_and_nothing_else(server: EmotionServer) -> None:
    answer = get(server)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    inline = re.findall(r"<(script|style)>(.*?)</\1>", answer.text, re.DOTALL)
    assert [kind for kind, _ in inline] == ["style", "script"]
    for kind, content in inline:
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[f"{kind}-src"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(| on\w+=| style=""", answer.text)
    assert "http" not in answer.headers["content-security-policy"]
    assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert answer.headers["permissions-policy"] == "microphone=(self)"


def test_what_was_sent_once_is_not_sent_again(server: EmotionServer) -> None:
    answer = get(server)
    again = get(server, **{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert get(server, "/?lang=de", **{"If-None-Match": answer.headers["etag"]}).status_code == 200
    packed = requests.get(f"{server.address}/", headers={**BROWSER, "Accept-Encoding": "gzip"}, stream=True, timeout=20)
    sent = packed.raw.read(decode_content=False)
    assert gzip.decompress(sent).decode() == answer.text
    assert len(sent) < 30_000


def test_the_microphones_script(server: EmotionServer) -> None:
    answer = get(server, "/page/capture.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "registerProcessor" in answer.text
    assert get(server, "/page/page.js").status_code == 404


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en;q=0.4, DE;q=0.5", "de"),
        ("fr,nl;q=0.9", "en"),
        ("fr, de;q=0.1", "de"),
        ("de;q=0, *", "en"),
        (";;q=,,=;q=de", "en"),
    ],
)
def test_the_language_is_the_readers(header: str, language: str) -> None:
    assert language_of(header) == language


def test_a_language_can_be_chosen(server: EmotionServer) -> None:
    for path, accepted, language in (("/", "de", "de"), ("/?lang=en", "de", "en"), ("/?lang=xx", "de", "de")):
        answer = get(server, path, **{"Accept-Language": accepted})
        assert answer.headers["content-language"] == language
        assert f'<html lang="{language}">' in answer.text


def test_every_sentence_is_there_in_every_language() -> None:
    assert tuple(NAMES) == LANGUAGES
    for package in (VIEW, PAGE):
        ours = leaves(words(package, "en"))
        for language in LANGUAGES[1:]:
            theirs = leaves(words(package, language))
            assert {key for key in ours if not key.startswith(".names.")} == {
                key for key in theirs if not key.startswith(".names.")
            }
            for key, sentence in ours.items():
                fields, others = (
                    {name for _, name, _, _ in Formatter().parse(one) if name} for one in (sentence, theirs[key])
                )
                assert fields == others, key
                assert theirs[key].strip()
    assert set(PUBLISHED.names) <= set(words(VIEW, "de")["names"])


def test_every_sentence_that_is_asked_for_is_there_and_every_one_is_used() -> None:
    shared = set(words(VIEW, "en")) & set(words(PAGE, "en"))
    assert shared == set()
    there = {*words(VIEW, "en"), *words(PAGE, "en")}
    assert not [key for key in there if hasattr(dict, key)], "Jinja would take the method"
    sources = "".join(
        text(package, name)
        for package, names in ((VIEW, ("view.html", "timeline.js")), (PAGE, ("index.html", "page.js", "site.py")))
        for name in names
    )
    assert set(re.findall(r"\bwords(?:\.|\[\")(\w+)", sources)) - {"de", "en"} == there


class Texts(HTMLParser):
    """Words that stand in a template themselves."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(re.sub(r"{%.*?%}|{{.*?}}", "", template))

    def handle_data(self, data: str) -> None:
        self.found += re.findall(r"[A-Za-z]{3,}", data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {"aria-label", "title", "placeholder", "alt"}
        self.found += [
            found for name, value in attrs if name in said for found in re.findall(r"[A-Za-z]{3,}", value or "")
        ]


@pytest.mark.parametrize(("package", "name"), [(VIEW, "view.html"), (PAGE, "index.html")])
def test_templates_say_nothing_themselves(package: str, name: str) -> None:
    assert set(Texts(text(package, name)).found) <= {"emonet"}


@pytest.mark.parametrize(("package", "name"), [(VIEW, "timeline.js"), (PAGE, "page.js")])
def test_scripts_say_nothing_themselves(package: str, name: str) -> None:
    code = re.sub(r"//.*|/\*.*?\*/", "", text(package, name))
    said = [one for one in re.findall(r'"([^"\n]*)"', code) if re.search(r"[A-Z][a-z]+ [a-z]+|^[A-Z][a-z]+[.!?]$", one)]
    assert said == []


def test_limits_are_told_in_the_readers_way() -> None:
    settings = ServerSettings(max_megabytes=2.5, max_minutes=1.5)
    assert "up to 2.5 MB and 1.5 minutes" in built("en", settings).html.decode()
    page = built("de", settings).html.decode()
    assert "bis 2,5 MB und 1,5 Minuten" in page
    assert '"limits":{"bytes":2500000,"seconds":90.0}' in page
