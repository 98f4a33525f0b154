from __future__ import annotations

import jinja2
import pytest

from emonet.pages import render


def test_a_template_of_a_package_is_framed_and_what_is_filled_in_is_escaped() -> None:
    page = render("tests.emonet.pages", "greeting.html", name="<b> & co.")
    assert page.startswith("<!doctype html>")
    assert "prefers-color-scheme: dark" in page
    assert "<h1>Hello &lt;b&gt; &amp; co.</h1>" in page


def test_a_field_that_is_missing_raises() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        render("tests.emonet.pages", "greeting.html")
