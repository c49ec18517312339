"""Ask an engine's libraries for the name of an architecture, without running them."""

from __future__ import annotations

import mmap
from pathlib import Path

from launcher.engine.find import Engine
from launcher.errors import EngineFailed

_LIBRARY = "libllama.so*"
_NAME = "general.architecture"  # what every llama.cpp looks up: a program without it was not searched


def check_architecture(engine: Engine, name: str) -> None:
    """Raise EngineFailed if this engine cannot know the architecture."""
    # LLM_ARCH_NAMES (src/llama-arch.cpp) is a table of C strings. That a name is in the library proves
    # nothing, that it is not proves that its models cannot be loaded.
    files = sorted(engine.folder.glob(_LIBRARY)) or [engine.path]
    if not any(_contains(file, _NAME) for file in files) or any(_contains(file, name) for file in files):
        return
    raise EngineFailed(
        f"the engine {engine.folder.name} does not know the model architecture {name}",
        hint="launcher engine build --source DIR builds a newer tree of it; "
        "or plan with llama.cpp: launcher engine list",
    )


def _contains(file: Path, text: str) -> bool:
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(text.encode() + b"\0") >= 0
    except (OSError, ValueError):  # gone, or empty
        return False
