"""Ask a gang's llama-server for a sign of life, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from launcher.engine.flags.listening import listening


class SignOfLife:
    """Ask llama-server for its figures, which it gives between two batches, in a thread."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._url = f"http://127.0.0.1:{argv[list(argv).index('--port') + 1]}"
        self._key_files = listening(argv).key_files
        self._is_asking = False
        self._has_answered = threading.Event()
        self.is_loaded = False

    def ask(self) -> None:
        if not self._is_asking:
            self._is_asking = True
            threading.Thread(target=self._run, daemon=True, name="sign-of-life").start()

    def take(self) -> bool:
        """Tell if it has answered since the last time."""
        answered = self._has_answered.is_set()
        self._has_answered.clear()
        return answered

    def _run(self) -> None:
        # Imported while it loads: nothing waits for it.
        from launcher.engine.client import is_loaded, read_metrics  # noqa: PLC0415
        from launcher.engine.key_file import read_api_key  # noqa: PLC0415
        from launcher.errors import LauncherError  # noqa: PLC0415

        try:
            if self.is_loaded or is_loaded(self._url):
                read_metrics(self._url, api_key=read_api_key(next(iter(self._key_files), None)))
                self.is_loaded = True
            self._has_answered.set()  # a load takes as long as it takes: the supervisor watches it
        except LauncherError:
            pass
        finally:
            self._is_asking = False
