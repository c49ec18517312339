"""The page at /: models, memory, requests and a chat, in one static file."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib.resources import files

from launcher.gateway.replies import Reply


@functools.cache
def page() -> Reply:
    """Return the page, which may run its own script and ask its own address, and nothing else."""
    text = files("launcher.gateway").joinpath("page.html").read_text(encoding="utf-8")
    script, style = (_digest(text, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
        "style-src-attr 'unsafe-inline'; "
        "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )
    return Reply(status=200, body=text.encode(), content_type=b"text/html; charset=utf-8", headers=headers)


def _digest(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    content = "" if found is None else found.group(1)
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
