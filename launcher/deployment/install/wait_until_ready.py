"""Wait for a server's first token: its systemd unit counts as started then.

python -m launcher.deployment.install.wait_until_ready URL [API_KEY_FILE]
"""

from __future__ import annotations

import sys
import time

from launcher.engine.client import generate_token, is_loaded
from launcher.engine.key_file import read_api_key

_POLL_S = 0.5


def wait_for_token(arguments: list[str]) -> int:
    url, key_file = arguments[0], arguments[1] if len(arguments) > 1 else None
    while not is_loaded(url):  # without a limit: systemd ends this with the unit when llama-server ends
        time.sleep(_POLL_S)
    generate_token(url, api_key=read_api_key(key_file))
    return 0


if __name__ == "__main__":
    sys.exit(wait_for_token(sys.argv[1:]))
