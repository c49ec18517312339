"""Ask a running gateway for its status."""

from __future__ import annotations

import time
from typing import Any

import httpx2

from launcher.system.json_object import parse_json

_ANSWER_S = 3.0
_MOST_BYTES = 4 << 20
_SCHEMA = 1


def ask_gateway(url: str, key: str | None) -> dict[str, Any] | None:
    """Return the gateway's status, None if no gateway of ours answers there."""
    try:
        code, body = read_answer(f"{url}/gateway/status", key, limit_s=_ANSWER_S)
        status = parse_json(body) if code == httpx2.codes.OK else None
    except (httpx2.HTTPError, ValueError):
        return None
    return status if isinstance(status, dict) and status.get("schema") == _SCHEMA else None


def read_answer(url: str, key: str | None, *, limit_s: float) -> tuple[int, bytes]:
    """Return status and body. Raises HTTPError, ValueError for one that is too large or takes too long."""
    # another user's program may listen there
    headers = {"Accept-Encoding": "identity"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body, latest = b"", time.monotonic() + limit_s
    with httpx2.stream("GET", url, headers=headers, timeout=limit_s) as answer:
        for block in answer.iter_raw():
            body += block
            if len(body) > _MOST_BYTES or time.monotonic() > latest:
                raise ValueError("its answer is too large, or too slow")
        return answer.status_code, body
