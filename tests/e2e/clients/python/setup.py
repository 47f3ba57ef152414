"""What all files here need: where the service under test is, how it is paid, and the fake engine behind it.

The files run in an environment of their own, with the libraries that strangers use and without Hanlin.
"""

import json
import os
import urllib.request
from typing import Any

BASE_URL = os.environ["SERVICE_URL"]
KEY = os.environ["SERVICE_KEY"]
ENGINE_URL = os.environ.get("ENGINE_URL", "")  # empty: real weights
MODEL = os.environ.get("SERVICE_MODEL", "qwen-plus")
DRILLS = int(os.environ.get("DRILLS", "1"))


def answers(*rules: dict[str, Any]) -> None:
    """Say what the engine answers, and forget what it was asked before; real weights answer what they will."""
    if ENGINE_URL:
        _call("PUT", "/rules", list(rules))
        _call("DELETE", "/requests")


def _call(method: str, path: str, body: Any = None) -> None:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(ENGINE_URL + path, data, headers, method=method)):
        pass
