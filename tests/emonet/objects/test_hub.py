"""The Hugging Face hub, by its real client and a small server in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[3]


class _Hub(BaseHTTPRequestHandler):
    """Data sets `me/sounds`, which is there, and `me/gated`, for which a token is needed."""

    files: ClassVar[dict[str, bytes]]
    asked: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.say([self.entry(path) for path in body["paths"] if path in self.files])

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{path} {self.headers.get('range', '')}".strip())
        if "/me/gated" in path:
            return self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if "/me/sounds" not in path:
            return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        rest = path.partition("/me/sounds")[2]
        if rest.startswith("/resolve/main/"):
            return self.send_file(rest.removeprefix("/resolve/main/"))
        if rest.startswith("/tree/main"):
            folder = rest.removeprefix("/tree/main").strip("/")
            if folder and not any(name.startswith(f"{folder}/") for name in self.files):
                return self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            found = [name for name in self.files if name.startswith(f"{folder}/" if folder else "")]
            return self.say([self.entry(name) for name in found])
        if rest in ("", "/revision/main"):
            return self.say({"id": "me/sounds", "sha": "0" * 40, "siblings": []})
        return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})

    def entry(self, name: str) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(self.files[name]), "oid": "0" * 40}

    def send_file(self, name: str) -> None:
        if name not in self.files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        self.reply(206, self.files[name][int(first) : int(last) + 1], {})

    def say(self, answer: object) -> None:
        self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[tuple[str, type[_Hub]]]:
    class Hub(_Hub):
        files: ClassVar[dict[str, bytes]] = {}
        asked: ClassVar[list[str]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Hub
    server.shutdown()
    server.server_close()


def run(endpoint: str, folder: Path, code: str) -> str:
    """What a fresh process prints, since the hub's client reads its endpoint when it is imported."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = keep | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow  # a process, and its own that decode
def test_a_data_set_of_the_hub(hub: tuple[str, type[_Hub]], make_wav: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    endpoint, server = hub
    for number, split in enumerate(("train", "validation", "test")):
        path = f"data/{split}-00000-of-00001.parquet"
        audio = [{"bytes": make_wav(hertz=200 + 10 * (3 * number + n)).read_bytes(), "path": None} for n in range(3)]
        parquet.write_table(pa.table({"audio": audio, "anger": [0, 1, 2]}), tmp_path / "t.parquet")
        server.files[path] = (tmp_path / "t.parquet").read_bytes()
    server.files["one.wav"] = make_wav().read_bytes()
    code = """
from emonet.audio import audio_bytes
from emonet.clips import AudioRange
from emonet.corpora import open_corpus
from emonet.errors import RequestError
from emonet.objects import Objects, read_range, size_of
corpus = open_corpus("manifest:hf://datasets/me/sounds/data/*.parquet")
print(len(corpus), [clip.split for clip in corpus.clips][::3], {clip.seconds for clip in corpus.clips})
one = "hf://datasets/me/sounds/one.wav"
print(size_of(one), len(audio_bytes(AudioRange(one, 0, size_of(one)))), read_range(one, 4, 2) + read_range(one, size_of(one), 2))
print(sorted(Objects.open("hf://datasets/me/sounds/data").list())[0], size_of(one + ".no"))
print(list(Objects.open("hf://datasets/me/sounds/none").list()), list(Objects.open("hf://datasets/me/sounds").list("none")))
for address in ("me/no", "me/gated", "me/sounds@old"):
    try:
        print(size_of(f"hf://datasets/{address}/one.wav"))
    except RequestError as error:
        print(str(error).splitlines()[0])
"""
    lines = run(endpoint, tmp_path, code).splitlines()
    assert lines[0] == "9 ['test', 'train', 'validation'] {1.0}"
    assert lines[1].startswith("32044 32044 b")
    assert lines[2] == f"('test-00000-of-00001.parquet', {len(server.files['data/test-00000-of-00001.parquet'])}) None"
    assert lines[3] == "[] []"  # as in a bucket
    assert lines[4:] == [
        "there is no such data set or model on the hub, or it is private",
        "the hub gives this only to those whom its owner has admitted",
        "the data set or model has no such revision",
    ]
    assert not any(asked.endswith("resolve/main/one.wav") for asked in server.asked)  # always by a range
    away = """
import os
os.environ["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
from huggingface_hub import constants
from emonet.errors import EmonetError
from emonet.objects import size_of
try:
    size_of("hf://datasets/me/sounds/one.wav")
except EmonetError as error:
    print(str(error).splitlines()[0])
"""
    assert run("http://127.0.0.1:9", tmp_path, away) == "the hub does not answer\n"
