"""A repo of one small model, for the local Hub to serve with faults."""

from __future__ import annotations

from launcher.models.refs import ModelRef, RefKind
from tests.tiny_gguf import tiny_gguf

REPO, FILE = "user/repo", "big-Q8_0.gguf"
MODEL = tiny_gguf(n_values=50_000)
REF = ModelRef(kind=RefKind.HUB, name=REPO)
