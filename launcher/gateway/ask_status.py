"""Ask a running gateway for its status."""

from __future__ import annotations

import json
from typing import Any

import httpx2

_ANSWER_S = 3.0
_MOST_BYTES = 4 << 20
_SCHEMA = 1


def ask_gateway(url: str, key: str | None) -> dict[str, Any] | None:
    """Return the gateway's status, None if no gateway of ours answers there."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        answer = httpx2.get(f"{url}/gateway/status", headers=headers, timeout=_ANSWER_S)
        if answer.status_code != httpx2.codes.OK or len(answer.content) > _MOST_BYTES:
            return None
        status = json.loads(answer.content)
    except (httpx2.HTTPError, ValueError, RecursionError):
        return None
    return status if isinstance(status, dict) and status.get("schema") == _SCHEMA else None
