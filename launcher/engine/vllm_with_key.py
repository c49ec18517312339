"""Start vLLM with the key of a file: `python -m … --api-key-file FILE vllm serve …`.

vLLM takes a key from its command line, which all users see, or from VLLM_API_KEY.
"""

from __future__ import annotations

import os
import sys

from launcher.engine.key_file import read_keys
from launcher.errors import UsageError

VARIABLE = "VLLM_API_KEY"
_FLAG = "--api-key-file"


def with_key_file(argv: tuple[str, ...], file: str | None) -> tuple[str, ...]:
    """Return the command line that starts vLLM with the file's first key."""
    if file is None:
        return argv
    return (sys.executable, "-P", "-m", "launcher.engine.vllm_with_key", _FLAG, file, *argv)


def _main() -> None:
    flag, file, *argv = sys.argv[1:]
    if flag != _FLAG or not argv:
        sys.exit(f"usage: {_FLAG} FILE vllm serve …")
    try:
        key = read_keys(file)[0]
    except UsageError as error:
        sys.exit(error.message)
    os.execvpe(argv[0], argv, {**os.environ, VARIABLE: key})  # noqa: S606  the program that was planned


if __name__ == "__main__":
    _main()
