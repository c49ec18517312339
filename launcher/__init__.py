"""Plan, fetch and serve the best quantised model that a machine can hold.

For scripts and notebooks: `launcher.load(REF)` is a model in this process, `launcher.plan(REF)` what it would
take, `launcher.up(REF)` a server, `launcher.stop(NAME)` its end. See `launcher.api`.
"""

# Types are in __init__.pyi. Nothing is imported here before it is asked for: every module imports this one.

from importlib import import_module

__version__ = "0.1.0"

__all__ = ["Deployment", "Plan", "Wishes", "load", "plan", "stop", "up"]


def __getattr__(name: str) -> object:
    if name == "plan":  # the room of that name, which can be called
        return import_module("launcher.plan")
    if name in __all__:
        return getattr(import_module("launcher.api"), name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
