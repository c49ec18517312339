from __future__ import annotations

from launcher.engine.pinned import LLAMA_CPP
from launcher.gguf.known_architectures import COMMIT


def test_the_known_architectures_are_the_pinned_engines() -> None:
    assert LLAMA_CPP.commit == COMMIT
