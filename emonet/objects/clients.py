"""Clients of buckets, with what the environment says about credentials, region and endpoint."""

from __future__ import annotations

import configparser
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from emonet.errors import RequestError
from emonet.objects.failures import explained

PATIENCE = 60.0  # seconds for which a request is tried again where the service does not answer; see _patience
_TIMES = 8  # at most
_UNDER_WAY = 180.0  # seconds for requests that were sent before: the hub and web servers are tried six times for 30 s
_CREDENTIALS = {  # obstore's names of what an AWS profile holds
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
}


def new_client(bucket: str) -> Any:
    """A bucket, as obstore has it.

    Raises:
        RequestError: if obstore is not installed, or the environment says too little.
    """
    try:
        from obstore.store import from_url
    except ImportError as error:
        hint = "pip install 'emonet[objects]'"
        raise RequestError("reading object stores needs obstore", where=bucket, found=error, hint=hint) from error
    profile: dict[str, Any] = _profile() if bucket.startswith("s3") else {}
    try:
        return from_url(
            bucket,
            # Plain http only where somebody names such an endpoint; a part may take long, but never stands still.
            client_options={"allow_http": True, "connect_timeout": "5s", "read_timeout": "30s", "timeout": "600s"},
            retry_config={"max_retries": _TIMES, "retry_timeout": timedelta(seconds=_patience())},
            **profile,
        )
    except Exception as error:  # obstore's errors have no base of their own
        raise explained(error, "open", bucket) from error


def patience() -> float:
    """Seconds after which a store of objects that does not answer has been given up, whichever it is."""
    return _patience() + _UNDER_WAY


def _patience() -> float:
    """Seconds, from EMONET_OBJECTS_PATIENCE where it is set."""
    text = os.environ.get("EMONET_OBJECTS_PATIENCE", "")
    try:
        return max(0.0, float(text)) if text else PATIENCE
    except ValueError:
        raise RequestError("EMONET_OBJECTS_PATIENCE is no number", expected="seconds", found=text) from None


def _profile() -> dict[str, str]:
    """Keys and region of the AWS profile, which obstore does not look up; empty where the environment has keys."""
    environment = os.environ
    if "AWS_ACCESS_KEY_ID" in environment or "AWS_WEB_IDENTITY_TOKEN_FILE" in environment:
        return {}
    name, found = environment.get("AWS_PROFILE", "default"), configparser.RawConfigParser()
    folder = Path.home() / ".aws"
    files = {
        environment.get("AWS_CONFIG_FILE", folder / "config"): name if name == "default" else f"profile {name}",
        environment.get("AWS_SHARED_CREDENTIALS_FILE", folder / "credentials"): name,
    }
    values: dict[str, str] = {}
    for file, section in files.items():
        found.read(file, "utf-8")
        if found.has_section(section):
            values |= {
                ours: found[section][theirs] for theirs, ours in _CREDENTIALS.items() if theirs in found[section]
            }
    if "AWS_REGION" in environment or "AWS_DEFAULT_REGION" in environment:
        values.pop("region", None)
    return values
