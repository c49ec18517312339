"""Answer with the page, under a policy that runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from launcher.gateway.replies import Reply


@cache
def page() -> Reply:
    """Return the page, which runs its own script, asks its own address, and nothing else."""
    text = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return Reply(
        status=200,
        body=text.encode(),
        content_type=b"text/html; charset=utf-8",
        headers=(
            (b"content-security-policy", content_policy(text).encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cache-control", b"no-cache"),
            (b"vary", b"accept"),
        ),
    )


@cache
def dashboard() -> bytes:
    """Return the dashboard that Grafana imports."""
    return files(__package__).joinpath("grafana.json").read_bytes()


def content_policy(text: str) -> str:
    """Return the Content-Security-Policy for the page: its inline script and style, by hash, and no more."""
    return "; ".join([
        "default-src 'none'",
        f"script-src {_hashes('script', text)}",
        f"style-src {_hashes('style', text)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ])  # fmt: skip


def _hashes(tag: str, text: str) -> str:
    found = [part.partition(f"</{tag}>")[0] for part in text.split(f"<{tag}>")[1:]]
    return " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in found
    )
