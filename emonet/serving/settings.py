"""Settings of the HTTP server: what it serves, where, to whom, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from emonet.schema import Schema


class ServerSettings(Schema):
    """Where a server listens, who may ask it for what, and its limits."""

    model: str = "models:/emonet-voice@champion"
    """A registry URI, the folder of a voice model, or hf://ORG/NAME[@REVISION]; an alias is followed: where it moves,
    so does the server."""
    more_models: tuple[str, ...] = ()
    """Further models that requests may name (?model=), as --model is given; all are in memory."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every one of this machine. Others than this machine's own need --token-file."""
    port: int = Field(5001, ge=0, le=65535)
    """Port to listen on; 0 is any free one."""
    token_file: Path | None = None
    """File with a token a line; who asks names one of them (Authorization: Bearer TOKEN). It is read again when it
    changes."""
    allow_hosts: tuple[str, ...] = ()
    """Names that the server is reached by, beside localhost and --host: what the header Host may say."""
    allow_origins: tuple[str, ...] = ()
    """Origins (https://app.example.com) whose pages may ask; by default only pages of the server itself."""
    allow_paths: str = "off"
    """Which files of this machine a request may name: off, any, or those within a folder."""
    allow_urls: tuple[str, ...] = ()
    """Hosts (HOST or HOST:PORT) that audio may be fetched from; none by default."""
    root_path: str = Field("", pattern=r"^(/[^/?#\s]+)*$")
    """Path that a proxy puts the server under and takes off again, such as /emonet."""
    experts_precision: Literal["float32", "bf16", "int8"] = "float32"
    """How experts on flattened states are held: bf16 and int8 need a half and a quarter of the memory."""
    device: str | None = None
    """Where encoder and experts compute, e.g. cpu or cuda:0; by default the first GPU, else the processor."""
    captioner: str | None = None
    """Folder, hub id or registry URI of a captioner, for captions; without one there are none."""
    max_megabytes: float = Field(50, gt=0)
    """The largest body of a request (MB), and the largest recording."""
    max_minutes: float = Field(60, gt=0)
    """The longest recording of a timeline (minutes)."""
    max_recordings: int = Field(64, ge=1)
    """Recordings in a request (count)."""
    max_requests: int = Field(128, ge=1)
    """Requests at work at once (count); more are refused with status 429."""
    max_queue: int = Field(256, ge=1)
    """Recordings of all requests that are decoded, wait or are scored (count)."""
    max_streams: int = Field(16, ge=1)
    """Live streams at once (count)."""
    max_timelines: int = Field(2, ge=1)
    """Timelines that are made at once (count)."""
    timeout: float = Field(300, gt=0)
    """The longest that a request may take (seconds)."""
    idle: float = Field(10, gt=0)
    """A client that sends nothing, or takes nothing, for so long is cut off (seconds); a live stream after six times
    that."""
    batch_size: int = Field(32, ge=1)
    """Recordings per pass through the encoder, of all requests together (count)."""
    gather: float = Field(5, ge=0, le=1000)
    """How long a pass waits for recordings that are on their way (milliseconds)."""
    watch: float = Field(10, gt=0)
    """How often the registry is asked whether the alias has moved (seconds)."""
    runs: Path = Path("runs")
    """Folder with the embedded registry, unless MLFLOW_TRACKING_URI is set."""

    @property
    def most_bytes(self) -> int:
        """Of a body."""
        return round(self.max_megabytes * 1e6)
