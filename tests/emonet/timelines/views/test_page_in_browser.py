from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emonet.targets import EMOTIONS
from emonet.timelines import write_page
from emonet.timelines.views import page as writing
from tests.browsers import Browser, Tab
from tests.emonet.timelines.views.made import HOSTILE, long, small

pytestmark = pytest.mark.slow
WAIT = "await new Promise(done => setTimeout(done, {}));"
STATE = "return {paused: audio.paused, at: audio.currentTime, said: $('status').textContent, from: view.state.from, to: view.state.to};"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    import soundfile as sf

    folder = tmp_path_factory.mktemp("page")
    sf.write(folder / "a.wav", 0.1 * np.sin(np.arange(12 * 16_000) / 20), 16_000)
    return write_page(folder / "page.html", small(), audio=folder / "a.wav")


@pytest.fixture
def tab(browser: Browser, page: Path) -> Iterator[Tab]:
    with browser.tab(page) as tab:
        tab.run(
            "Object.assign(window, view); while (!audio.readyState) await new Promise(done => setTimeout(done, 20));"
        )
        yield tab
        assert tab.errors == []


def test_a_row_plays_its_segment_and_stops_at_its_end(tab: Tab) -> None:
    assert abs(tab.run("return audio.duration;") - 12.0) < 0.01
    tab.run("document.querySelectorAll('tbody button')[1].click();" + WAIT.format(800))
    playing = tab.run(STATE)
    assert not playing["paused"]
    assert 4.0 < playing["at"] < 5.5
    assert playing["said"] == "Playing 0:04 to 0:07: B, Fear 3.10, Anger 0.50, Amusement 0.10"
    assert tab.run("return document.querySelector('tr[aria-current]').rowIndex;") == 2
    assert "B, Fear 3.10" in tab.run("return stage.getAttribute('aria-valuetext');")
    tab.run(WAIT.format(3500))
    stopped = tab.run(STATE)
    assert stopped["paused"]
    assert stopped["at"] == pytest.approx(7.0, abs=0.05)


def test_the_keyboard_alone_suffices(tab: Tab) -> None:
    tab.press(" ", " ")
    tab.run(WAIT.format(600))
    playing = tab.run(STATE)
    assert not playing["paused"]
    assert playing["at"] > 0
    tab.press(" ", " ")
    assert tab.run(STATE)["paused"]
    before = tab.run(STATE)["at"]
    tab.press("ArrowRight")
    assert tab.run(STATE)["at"] == pytest.approx(before + 5, abs=0.05)
    tab.press("ArrowLeft")
    assert tab.run(STATE)["at"] == pytest.approx(before, abs=0.05)
    tab.press("+", "+")
    assert tab.run(STATE)["to"] == 12.0, "single letters are heeded where the plot has the focus alone"
    tab.run("stage.focus();")
    tab.press("+", "+")
    zoomed = tab.run(STATE)
    assert zoomed["to"] - zoomed["from"] == pytest.approx(6.0)
    tab.press("n", "n")
    assert tab.run("return state.at;") in (0.5, 4.0)
    tab.press("0", "0")
    assert tab.run(STATE)["to"] == 12.0
    tab.press("End")
    assert tab.run("return state.at;") == 12.0
    tab.run("$('search').focus();")
    for letter in "ang":
        tab.press(letter, letter)
    tab.press(" ", " ")
    assert tab.run("return $('search').value;") == "ang "
    assert tab.run(STATE)["paused"], "a space in a field is a space"


def test_emotions_are_searched_chosen_and_hidden(tab: Tab) -> None:
    shown = "return [...$('legend').children].map(item => item.childNodes[1].textContent);"
    first = tab.run(shown)
    assert first[:2] == ["Fear", "Anger"]
    tab.run("$('search').value = 'jeal'; $('search').dispatchEvent(new Event('input'));")
    assert tab.run("return labels.filter(label => !label.hidden).map(label => label.textContent);") == [
        "Jealousy & Envy"
    ]
    tab.run("labels.find(label => !label.hidden).firstChild.click();")
    assert tab.run(shown) == [*first, "Jealousy & Envy"]
    assert tab.run(STATE)["said"] == "Jealousy & Envy is shown"
    tab.run("$('legend').querySelector('[aria-label=\"Hide Fear\"]').click();")
    assert tab.run(shown) == [*first[1:], "Jealousy & Envy"]
    assert not tab.run(f"return labels[{EMOTIONS.index('fear')}].firstChild.checked;")
    tab.run("targets.forEach((_, t) => state.shown.has(t) || show(t, true));")
    assert len(tab.run(shown)) == 18
    assert tab.run(STATE)["said"] == "No more than 18 curves fit"


def test_z_peaks_sorting_and_speakers(tab: Tab) -> None:
    choose = "$('{0}').value = '{1}'; $('{0}').dispatchEvent(new Event('change'));"
    tab.run(choose.format("focus", EMOTIONS.index("anger")))
    peaks = "return [...$('peaks').children].map(item => item.textContent.slice(0, 9));"
    assert tab.run(peaks) == ["0:01 2.50", "0:04 0.50"], "what is flagged is no peak"
    tab.run(choose.format("kind", "standardised"))
    assert tab.run(peaks) == ["0:01 +9.0", "0:04 +1.0"]
    starts = "return [...document.querySelectorAll('tbody button')].map(button => button.textContent);"
    tab.run("document.querySelector('[data-key=focus] button').click();")
    assert tab.run(starts) == ["0:07.5", "0:00.5", "0:04.0"]
    assert tab.run("return document.querySelector('[aria-sort]').textContent;") == "Anger"
    tab.run("document.querySelector('[data-key=focus] button').click();")
    assert tab.run(starts) == ["0:04.0", "0:00.5", "0:07.5"]
    tab.run(choose.format("speaker", 1))
    assert tab.run(starts) == ["0:04.0"]
    tab.run("$('peaks').querySelector('button').click();" + WAIT.format(300))
    assert 4.0 <= tab.run(STATE)["at"] < 5.0


def test_curves_are_drawn_and_the_mouse_moves_the_view(tab: Tab) -> None:
    paint = "return [...plot.getContext('2d').getImageData(0, 0, plot.width, plot.height).data].filter((v, k) => k % 4 === 3 && v).length;"
    assert tab.run(WAIT.format(100) + paint) > 10_000
    box = tab.run(
        "stage.scrollIntoView(); const box = stage.getBoundingClientRect(); return [box.left, box.top, box.width];"
    )
    left, top, width = box

    def mouse(kind: str, x: float, **more: object) -> None:
        tab.ask("Input.dispatchMouseEvent", type=kind, x=x, y=top + 300, **more)

    middle = left + width / 2
    for kind in ("mousePressed", "mouseReleased"):
        mouse(kind, middle, button="left", clickCount=1)
    assert tab.run("return state.at;") == pytest.approx(6.0, abs=0.6)
    mouse("mouseWheel", middle, deltaX=0, deltaY=-200, modifiers=2)
    zoomed = tab.run(WAIT.format(200) + STATE)
    assert zoomed["to"] - zoomed["from"] < 6
    mouse("mousePressed", middle, button="left", clickCount=1)
    mouse("mouseMoved", middle - 100, button="left", buttons=1)
    mouse("mouseReleased", middle - 100, button="left")
    assert tab.run(STATE)["from"] > zoomed["from"]


def test_a_view_that_is_closed_leaves_the_markup_alone(tab: Tab) -> None:
    tab.run("look(0, 6); audio.dispatchEvent(new Event('play')); view.close(); $('clock').textContent = 'another';")
    assert tab.run(WAIT.format(300) + "return $('clock').textContent;") == "another"


def test_nothing_is_refused_or_thrown_light_or_dark(browser: Browser, page: Path) -> None:
    for dark in (False, True):
        visit = browser.visit(page, dark=dark, offline=True)
        assert visit.console == ()
        assert "alert(1)" not in visit.html.replace("&lt;script&gt;alert(1)", "").replace("u003ealert(1)", "")


def test_a_link_is_followed_and_a_file_asked_for(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_wav: Callable[..., Path]
) -> None:
    monkeypatch.setattr(writing, "LONGEST", 1.0)
    recording = make_wav("a # b.wav", seconds=12.0)
    linked = write_page(tmp_path / "page.html", small(), audio=recording)
    with browser.tab(linked) as tab:
        tab.run("while (!audio.readyState) await new Promise(done => setTimeout(done, 20));")
        assert tab.run("return [$('missing').hidden, $('play').disabled];") == [True, False]
    recording.unlink()
    with browser.tab(linked) as tab:
        tab.run("while ($('missing').hidden) await new Promise(done => setTimeout(done, 20));")
        assert "is not there" in tab.run("return $('why').textContent;")
        tab.run("document.querySelector('tbody button').click();")
        assert tab.run(STATE)["said"].startswith("At 0:01 to 0:04")
        other = make_wav("other.wav", seconds=5.0)
        node = tab.ask("DOM.querySelector", nodeId=tab.ask("DOM.getDocument")["root"]["nodeId"], selector="#file")
        tab.ask("DOM.setFileInputFiles", files=[str(other)], nodeId=node["nodeId"])
        tab.run("while (!audio.readyState) await new Promise(done => setTimeout(done, 20));" + WAIT.format(100))
        assert tab.run("return $('why').textContent;") == (
            "That recording is 0:05 long, and this timeline 0:12: is it another one?"
        )
        assert tab.errors == []


def test_what_a_model_does_not_say_is_not_offered(browser: Browser, tmp_path: Path) -> None:
    bare = tuple(replace(one, standardised={}, uncertainties={}, unfamiliarity=None) for one in small().segments)
    offered = "return [...document.querySelectorAll('label:not([hidden]), #table th')].map(one => one.innerText);"
    with browser.tab(write_page(tmp_path / "all.html", small())) as tab:
        whole = tab.run(offered)
        assert "speaker" in whole
        assert "deviations" in tab.run("return $('keys').parentElement.textContent;")
    made = small(segments=bare, speech=None, envelope=())
    with browser.tab(write_page(tmp_path / "bare.html", made)) as tab:
        less = tab.run(offered)
        hidden = tab.run("return [...document.querySelectorAll('[data-if]')].map(one => one.hidden);")
    assert [one.split("\n")[0].strip() for one in whole if one not in less] == [
        "Values",
        "uncertainty",
        "unfamiliarity",
    ]
    assert hidden == [False, True, True, True, True]


def test_ten_hours_load_and_move_quickly(browser: Browser, tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.html", long(), audio=tmp_path / "missing.flac")
    assert page.stat().st_size < 15e6
    with browser.tab(page) as tab:
        loaded = tab.run("return performance.getEntriesByType('navigation')[0].loadEventEnd;")
        frames = tab.run(
            "Object.assign(window, view); paint(); const took = []; for (const wide of [total, 3600, 60]) { look(7000, 7000 + wide);"
            "const began = performance.now(); paint(); took.push(performance.now() - began); } return took;"
        )
        print(f"10 h: {page.stat().st_size / 1e6:.1f} MB, loaded in {loaded:.0f} ms, frames in {frames} ms")
        assert loaded < 10_000  # 0.9 s on an idle machine
        assert max(frames) < 500
        tab.run("$('after').click();")
        assert tab.run("return $('rows').textContent;") == "101–200 of 10000"
        assert tab.run("return document.querySelectorAll('tbody tr').length;") == 100
        assert HOSTILE not in tab.run("return document.title;")
        assert tab.errors == []
