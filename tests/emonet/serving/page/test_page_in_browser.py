"""The page in Chromium, at real servers of a tiny model."""

from __future__ import annotations

import base64
import io
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf

from emonet.serving import EmotionServer

pytestmark = pytest.mark.slow
RESULT = "#result:not([hidden])"


def choose(page: Any, path: Path | dict[str, Any], mode: str = "sliding") -> None:
    page.locator("#options").evaluate("options => { options.open = true; }")
    page.select_option("#mode", mode)
    page.set_input_files("#picked", path)


def until(page: Any, condition: str) -> None:
    """Wait for what a script says; Playwright's own way evaluates text in the page, which its policy forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def complaint(page: Any) -> str:
    page.wait_for_selector("#trouble p")
    return str(page.inner_text("#trouble"))


def names(page: Any, where: str) -> list[str]:
    return [str(one) for one in page.locator(f"{where} li > span:first-child").all_inner_texts()]


def test_a_recording_is_seen_heard_and_taken_away(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address)
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    assert page.evaluate("document.activeElement.id") == "name"
    assert page.inner_text("#name") == "interview.wav"
    assert re.fullmatch(r"0:04, \d+ segments; voice", page.inner_text("#facts"))
    assert sorted(names(page, "#overall")) == ["Anger", "Fear", "Sadness"]
    assert page.inner_text("#told").startswith("interview.wav is analysed: ")
    until(page, "document.getElementById('plot').width > 600")
    paint = "[...plot.getContext('2d').getImageData(0, 0, plot.width, plot.height).data].filter((v, k) => k % 4 === 3 && v).length"
    assert page.evaluate(paint) > 10_000

    page.locator("tbody tr").nth(2).get_by_role("button").click()
    until(page, "!document.getElementById('audio').paused")
    row = page.locator("tr[aria-current]")
    row.wait_for()
    start = row.get_by_role("button").inner_text()
    assert page.inner_text("#segment-head").startswith(f"Strongest from {start} to ")
    assert sorted(names(page, "#segment")) == ["Anger", "Fear", "Sadness"]

    taken: dict[str, bytes] = {}
    for name in ("CSV", "JSON", "WebVTT", "Page", "Picture"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        taken[download.value.suggested_filename] = Path(download.value.path()).read_bytes()
    assert list(taken) == [f"interview.{one}" for one in ("csv", "json", "vtt", "html", "png")]
    assert b"interview.wav," in taken["interview.csv"]
    assert taken["interview.vtt"].startswith(b"WEBVTT")
    assert b'id="sound"' in taken["interview.html"]
    assert taken["interview.png"].startswith(b"\x89PNG")
    assert b'"view"' not in taken["interview.json"]
    assert page.wrong == []
    assert {url.partition(":")[0] if url.startswith(("blob:", "data:")) else url.split("/v1")[0] for url in page.asked} <= {
        "blob", "data", server.address, f"{server.address}/",
    }  # fmt: skip


def test_what_is_dropped_is_analysed(server: EmotionServer, visit: Callable[..., Any], spoken: Path) -> None:
    page = visit(server.address)
    page.locator("#options").evaluate("options => { options.open = true; }")
    page.select_option("#mode", "sliding")
    fill = """names => {
      const transfer = new DataTransfer();
      for (const name of names) transfer.items.add(new File([Uint8Array.from(atob(window.sound), c => c.charCodeAt(0))], name));
      return transfer;
    }"""
    page.evaluate("sound => { window.sound = sound; }", base64.b64encode(spoken.read_bytes()).decode())

    def drop(*names: str) -> None:
        page.dispatch_event("#drop", "drop", {"dataTransfer": page.evaluate_handle(fill, list(names))})

    drop()
    assert complaint(page) == "What was dropped is no file."
    drop("one.wav", "two.wav")
    page.wait_for_selector(RESULT)
    assert page.inner_text("#name") == "one.wav"
    assert complaint(page) == "Several files were dropped; the first one is analysed."
    assert page.url == f"{server.address}/", "the browser does not leave the page for the file"


def test_a_second_recording_takes_the_place_of_the_first(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address)
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    sound, rate = sf.read(spoken)
    wave = io.BytesIO()
    sf.write(wave, sound[:rate], rate, format="WAV")
    choose(page, {"name": "second.wav", "mimeType": "audio/wav", "buffer": wave.getvalue()})
    until(page, "document.getElementById('name').textContent === 'second.wav'")
    assert page.inner_text("#facts").startswith("0:01, 1 segment;")
    assert page.locator("#stage").count() == 1
    until(page, "document.getElementById('audio').readyState")
    page.keyboard.press("End")
    page.locator("#stage").focus()
    page.keyboard.press("Home")
    assert page.evaluate("document.getElementById('audio').currentTime") == 0
    page.keyboard.press("ArrowRight")
    assert page.locator("#stage").get_attribute("aria-valuenow") == "1.0", "one listener, not that of the first, too"
    assert page.wrong == []


def test_intervals_of_an_ensemble_and_models_to_choose(
    start_server: Callable[..., EmotionServer],
    ensemble_voice: Path,
    voice: Path,
    visit: Callable[..., Any],
    spoken: Path,
    tmp_path: Path,
) -> None:
    server = start_server(model=str(ensemble_voice), more_models=(str(shutil.copytree(voice, tmp_path / "of one")),))
    page = visit(server.address)
    page.click("#options summary")
    assert page.locator("#model option").all_inner_texts() == ["voice", "of one"]
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    shown = page.inner_text("#overall")
    assert re.search(r"Anger\s+−?\d\.\d\d ± \d\.\d\d", shown)
    assert page.locator("#overall .spread").count() == 2, "sadness has no interval"
    assert page.inner_text("#facts").endswith("; voice")
    page.select_option("#model", "of one")
    choose(page, spoken)
    until(page, "document.getElementById('facts').textContent.endsWith('; of one')")
    assert "±" not in page.inner_text("#overall")


def test_captions_are_shown(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any], spoken: Path
) -> None:
    server = start_server()
    server.service.captions = lambda sounds: ["They sound <calm>."] * len(sounds)
    page = visit(server.address)
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    until(page, "document.getElementById('says').textContent")
    assert page.inner_text("#says") == "They sound <calm>."
    assert page.locator("td.text").first.inner_text() == "They sound <calm>."


def test_the_keyboard_alone_suffices(server: EmotionServer, visit: Callable[..., Any], spoken: Path) -> None:
    page = visit(server.address)
    page.on("filechooser", lambda _: None)  # from here on none opens outside of the test: the key would overtake that
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert seen == ["English", "Deutsch", "API", "pick", "record", "Options"]
    page.locator("#options summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "mode", "no model to choose: not in the way"
    page.keyboard.press("ArrowDown")
    page.locator("#pick").focus()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(spoken)
    page.wait_for_selector(RESULT)
    until(page, "document.getElementById('audio').readyState")
    page.keyboard.press("Space")
    until(page, "!document.getElementById('audio').paused")
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').paused")
    page.locator("#stage").focus()
    page.keyboard.press("Home")
    page.keyboard.press("n")
    assert "Anger" in str(page.locator("#stage").get_attribute("aria-valuetext"))
    page.get_by_role("button", name="CSV").focus()
    with page.expect_download():
        page.keyboard.press("Enter")


def test_a_screen_reader_finds_names_and_headings(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address)
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    tree = page.locator("body").aria_snapshot()
    for line in (
        'heading "emonet" [level=1]',
        'heading "interview.wav" [level=2]',
        'button "Choose a file"',
        'group "Download"',
        'slider "Position in the recording"',
        "main",
        "status",
        "alert",
    ):
        assert f"- {line}" in tree
    nameless = [
        line
        for line in tree.splitlines()
        if re.match(r"\s*- (button|combobox|checkbox|slider|textbox|searchbox|link)\b(?! \")", line)
    ]
    assert nameless == []


def test_the_microphone_is_scored_while_it_is_recorded_and_then_as_a_whole(
    server: EmotionServer, visit: Callable[..., Any]
) -> None:
    page = visit(server.address, permissions=("microphone",))
    page.locator("#options").evaluate("options => { options.open = true; }")
    page.select_option("#mode", "sliding")
    page.click("#record")
    page.wait_for_selector("#heard li")
    assert sorted(names(page, "#heard")) == ["Anger", "Fear", "Sadness"]
    assert page.inner_text("#heard-why").startswith("Strongest in the last ")
    until(page, "document.getElementById('elapsed').textContent === '0:02'")
    assert page.evaluate("document.getElementById('level').value") > 0.01
    assert page.evaluate("document.activeElement.id") == "stop"
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)
    assert page.inner_text("#name").startswith("Recording of ")
    assert re.match("0:0[23], ", page.inner_text("#facts"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Sound").click()
    sound, rate = sf.read(download.value.path())
    assert rate == 16_000
    assert 1.9 < len(sound) / rate < 4
    assert abs(sound).max() > 0.05
    deadline = time.monotonic() + 10
    while server.service.streams and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.service.streams == 0, "the stream ends with the recording"
    assert page.wrong == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "The microphone is not allowed."),
        ("delete Navigator.prototype.mediaDevices;", "over HTTPS only."),
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); };",
            "There is no microphone.",
        ),
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('quiet', 'OddError'); };",
            "The microphone cannot be used: quiet",
        ),
    ],
)
def test_a_microphone_that_cannot_be_used(
    server: EmotionServer, visit: Callable[..., Any], script: str, said: str
) -> None:
    page = visit(server.address, script=script)
    page.click("#record")
    assert said in complaint(page)
    assert page.is_visible("#choose")
    assert not page.is_visible("#live")


def test_live_scores_that_are_refused_do_not_end_the_recording(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any]
) -> None:
    server = start_server(max_streams=1)
    server.service.streams = 1
    page = visit(server.address, permissions=("microphone",))
    page.click("#record")
    until(page, "document.getElementById('heard-why').textContent.includes('the recording goes on')")
    until(page, "document.getElementById('elapsed').textContent === '0:01'")
    page.click("#discard")
    assert page.is_visible("#choose")
    server.service.streams = 0


def test_a_recording_ends_where_the_server_takes_no_more(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any]
) -> None:
    page = visit(start_server(max_minutes=1.2 / 60).address, permissions=("microphone",))
    page.click("#record")
    assert "as long as this server takes" in complaint(page)
    page.wait_for_selector(RESULT)
    assert page.inner_text("#facts").startswith("0:01, ")
    assert "as long as this server takes" in complaint(page), "and nothing else is wrong"
    assert page.wrong == []


def test_what_cannot_be_analysed_is_told_in_plain_words(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any], spoken: Path, tmp_path: Path
) -> None:
    server = start_server(max_megabytes=0.2, max_minutes=0.05, max_timelines=1)
    page = visit(server.address)

    def complain(name: str, content: bytes) -> str:
        choose(page, {"name": name, "mimeType": "audio/wav", "buffer": content})
        return complaint(page)

    asked = len(page.asked)
    assert complain("large.wav", b"RIFF" * 100_000).startswith("The file has 0.4 MB; this server takes up to 0.2 MB.")
    assert complain("empty.wav", b"").startswith("The file is empty.")
    assert len(page.asked) == asked, "nothing is sent that the server refuses"
    unusable = complain("a.wav", b"no audio")
    assert unusable.startswith("This recording cannot be used.")
    assert "The server says:" in unusable
    assert not page.is_visible("#trouble button"), "once more would not help"
    choose(page, spoken)
    until(page, "document.getElementById('trouble').textContent.startsWith('The recording is too large or too long')")
    assert "longer than 0.05 minutes" in page.inner_text("#trouble")
    assert page.locator("#trouble q").get_attribute("lang") == "en"
    gone = tmp_path / "gone.wav"
    gone.write_bytes(spoken.read_bytes())
    page.evaluate(
        "File.prototype.slice = () => ({arrayBuffer: async () => { throw new DOMException('', 'NotReadableError'); }})"
    )
    choose(page, gone)
    until(page, "document.getElementById('trouble').textContent.startsWith('The browser cannot read that file.')")


def test_a_busy_server_is_asked_again(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any], spoken: Path
) -> None:
    server = start_server(max_timelines=1)
    page = visit(server.address)
    server.service.timelines = 1
    choose(page, spoken)
    assert complaint(page).startswith("The server has too much to do at the moment.")
    assert page.evaluate("document.activeElement.id") == "trouble"
    server.service.timelines = 0
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(RESULT)
    assert page.inner_text("#trouble") == ""


def test_a_server_that_is_gone(voice: Path, visit: Callable[..., Any], spoken: Path) -> None:
    from emonet.serving import ServerSettings

    with EmotionServer(ServerSettings(model=str(voice), port=0, device="cpu")) as server:
        page = visit(server.address)
        choose(page, spoken)
        page.wait_for_selector(RESULT)
    page.get_by_role("button", name="CSV").click()
    assert complaint(page).startswith("The server does not answer.")
    choose(page, spoken)
    until(page, "document.getElementById('trouble').querySelector('button')")


def test_nothing_said_is_told(server: EmotionServer, visit: Callable[..., Any], spoken: Path) -> None:
    page = visit(server.address)
    choose(page, spoken, "speech")
    page.wait_for_selector(RESULT)
    assert page.inner_text("#notices li >> nth=0").startswith("No speech was found.")


def test_an_analysis_can_be_cancelled(server: EmotionServer, visit: Callable[..., Any], spoken: Path) -> None:
    page = visit(server.address)
    page.route("**/v1/timeline*", lambda route: None)  # no answer comes
    choose(page, spoken)
    page.wait_for_selector("#work:not([hidden])")
    assert page.inner_text("#working").startswith("interview.wav is analysed, 0:0")
    page.click("#cancel")
    page.wait_for_selector("#work", state="hidden")
    assert page.inner_text("#told") == "The analysis was cancelled"


def test_what_was_spoken_stays_until_it_is_saved(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address, permissions=("microphone",))
    asks = "!dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert not page.evaluate(asks)
    page.route("**/v1/timeline*", lambda route: None)  # no answer comes
    page.click("#record")
    until(page, "document.getElementById('elapsed').textContent === '0:01'")
    assert page.evaluate(asks), "a recording goes on"
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "cancel"
    page.keyboard.press("Enter")
    page.wait_for_selector("#work", state="hidden")
    assert re.fullmatch("Recording of .* is in this tab only.", page.inner_text("#kept-name"))
    assert page.evaluate(asks)
    page.unroute("**/v1/timeline*")
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    assert page.inner_text("#name") == "interview.wav"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the recording").click()
    assert re.fullmatch(r"Recording of .*\.wav", download.value.suggested_filename)
    assert sf.info(download.value.path()).samplerate == 16_000
    assert not page.is_visible("#kept")
    assert not page.evaluate(asks)


def test_models_that_did_not_come_are_asked_for_again(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address)
    page.route("**/v1/models", lambda route: route.fulfill(status=503), times=1)
    page.reload()
    assert complaint(page).startswith("The server was not ready in time")
    assert page.locator("#model option").count() == 0
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    assert page.inner_text("#facts").endswith("; voice")
    assert "model=voice" in next(url for url in page.asked if "/v1/timeline" in url)


def test_an_analysis_that_ends_does_not_disturb_a_recording(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address, permissions=("microphone",))
    held: list[Any] = []
    page.route("**/v1/timeline*", lambda route: held.append(route))
    choose(page, spoken)
    page.wait_for_selector("#work:not([hidden])")
    page.click("#record")
    page.wait_for_selector("#live:not([hidden])")
    until(page, "document.activeElement.id === 'stop'")
    held[0].continue_()
    page.wait_for_selector(RESULT)
    assert page.evaluate("[document.activeElement.id, scrollY]") == ["stop", 0]
    visible = "['key', 'choose', 'live'].filter(id => !document.getElementById(id).hidden)"
    page.evaluate("wantToken()")
    assert page.evaluate(visible) == ["key", "live"]
    assert page.evaluate("document.activeElement.id") == "stop"
    page.click("#discard")
    assert page.evaluate(visible) == ["key"]
    assert page.evaluate("document.activeElement.id") == "token"


def test_an_analysis_that_another_follows_says_nothing_more(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address)
    page.route("**/v1/timeline*", lambda route: None)
    page.evaluate("""() => {
      const {slice} = File.prototype;
      File.prototype.slice = function (...given) {
        if (this.name === "second.wav") return slice.apply(this, given);
        return {arrayBuffer: () => new Promise((done, fail) => { window.go = this.name === "slow.wav" ? done : fail; })};
      };
    }""")
    sound = spoken.read_bytes()
    for name, asked in (("slow.wav", 1), ("lost.wav", 2)):
        for one in (name, "second.wav"):
            choose(page, {"name": one, "mimeType": "audio/wav", "buffer": sound})
        until(page, "document.getElementById('working').textContent.startsWith('second.wav')")
        page.evaluate("window.go()")
        time.sleep(0.2)
        assert page.inner_text("#working").startswith("second.wav")
        assert page.inner_text("#trouble") == ""
        assert sum("/v1/timeline" in url for url in page.asked) == asked


def test_a_page_too_large_to_be_asked_for_with_its_sound_is_made_without(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(start_server(max_megabytes=0.13).address)
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    with page.expect_download() as download:
        page.get_by_role("button", name="Page", exact=True).click()
    assert complaint(page).startswith("The page was made without the sound")
    assert b'id="sound"' not in Path(download.value.path()).read_bytes()


TOKEN = "a-token/of~the+owner=0123"


def test_a_token_is_asked_for_and_kept_in_the_tab(
    start_server: Callable[..., EmotionServer], visit: Callable[..., Any], spoken: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n")
    server = start_server(token_file=path)
    page = visit(server.address, ready="#key", permissions=("microphone",))
    assert page.inner_text("#key-why") == "This server wants a token; its owner has it."
    assert not page.is_visible("#choose")
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.type("schlüssel-mit-umlaut")
    page.keyboard.press("Enter")
    assert "not known here" in page.inner_text("#key-why")
    page.fill("#token", "another-token-that-is-wrong")
    with page.expect_response("**/v1/models") as answer:
        page.keyboard.press("Enter")
    assert answer.value.status == 401
    until(page, "document.getElementById('key-why').textContent.includes('not known here')")
    page.fill("#token", f" {TOKEN} ")
    page.click("#key button")
    page.wait_for_selector("#choose")
    assert page.evaluate("sessionStorage.getItem('emonet.token')") == TOKEN
    assert page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    page.reload()
    page.wait_for_selector("#choose")
    page.click("#record")
    page.wait_for_selector("#heard li")
    page.click("#discard")

    path.write_text("a-token-that-came-later\n")
    choose(page, spoken)
    page.wait_for_selector("#key")
    page.fill("#token", "a-token-that-came-later")
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)
    assert page.inner_text("#name") == "interview.wav", "what waited for the token goes on"


def test_german(server: EmotionServer, visit: Callable[..., Any], spoken: Path) -> None:
    page = visit(server.address, locale="de-DE")
    assert page.evaluate("document.documentElement.lang") == "de"
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    assert sorted(names(page, "#overall")) == ["Angst", "Trauer", "Ärger"]
    assert re.search(r"\d,\d\d", page.inner_text("#overall"))
    shown = page.inner_text("body")
    assert not re.findall(r"\b(the|and|of|Play|Segments|Download|Search|Zoom|strongest|Peaks)\b", shown)
    page.get_by_role("link", name="English").click()
    page.wait_for_selector("#choose")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_below_a_path(start_server: Callable[..., EmotionServer], chromium: Any, spoken: Path) -> None:
    server = start_server(root_path="/emonet")
    context = chromium.new_context(locale="en-GB", permissions=["microphone"])
    try:
        page = context.new_page()
        page.route(
            "**/*",
            lambda route: (
                route.fulfill(response=route.fetch(url=route.request.url.replace("/emonet/", "/", 1)))
                if "/emonet/" in route.request.url
                else route.abort()
            ),
        )
        page.goto(f"{server.address}/emonet/")
        page.wait_for_selector("#choose")
        choose(page, spoken)
        page.wait_for_selector(RESULT)
        with page.expect_download():
            page.get_by_role("button", name="CSV").click()
    finally:
        context.close()


def test_a_phone_in_the_dark_scrolls_in_one_direction(
    server: EmotionServer, visit: Callable[..., Any], spoken: Path
) -> None:
    page = visit(server.address, viewport={"width": 360, "height": 740}, color_scheme="dark", locale="de-DE")
    choose(page, spoken)
    page.wait_for_selector(RESULT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
