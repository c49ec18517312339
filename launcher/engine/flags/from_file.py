"""Gate the flags that come from a file that is handed around: a lock, a profile, a record. Pure.

Such a file may say how a model is computed and sampled. What lets a server act on this machine, read or write
other files, or answer others than its user counts only when it is typed.
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import UsageError

_ACTS = "lets clients act on this machine"
_FILES = "names files of this machine"
_OPENS = "changes who may ask the server, and how"
# the flags of the pinned llama-server that have to be typed, and why (common/arg.cpp at 0c1e570)
_TYPED_ONLY = {
    **dict.fromkeys(
        [
            "--tools",
            "--tools-runtime",
            "-ag",
            "--agent",
            "--mcp-servers-config",
            "--mcp-servers-json",
            "--ui-mcp-proxy",
            "--webui-mcp-proxy",
            "--props",
            "--video-ffmpeg-dir",
            "--models-dir",
            "--models-preset",
            "--models-autoload",
            "--models-max",
            "--rpc",
        ],
        _ACTS,
    ),
    **dict.fromkeys(
        [
            "--path",
            "--media-path",
            "--slot-save-path",
            "--log-prompts-dir",
            "--log-file",
            "-lcd",
            "--lookup-cache-dynamic",
            "-lcs",
            "--lookup-cache-static",
            "--chat-template-file",
            "--grammar-file",
            "-jf",
            "--json-schema-file",
            "--ui-config-file",
            "--webui-config-file",
        ],
        _FILES,
    ),
    **dict.fromkeys(
        [
            "--host",
            "--port",
            "--reuse-port",
            "--api-prefix",
            "--api-key",
            "--api-key-file",
            "--ssl-key-file",
            "--ssl-cert-file",
            "--hf-token",
            "-hft",
            "--cors-origins",
            "--cors-methods",
            "--cors-headers",
            "--cors-credentials",
        ],
        _OPENS,
    ),
}


def check_flags_from_file(flags: Sequence[str], file: str) -> None:
    """Raise UsageError if flags that were read from `file` have one that has to be typed."""
    for _, words in split_flags(flags):
        flag = words[0].partition("=")[0]
        flag = flag.replace("_", "-") if flag.startswith("--") else flag  # as llama-server reads it
        why = _TYPED_ONLY.get(flag)
        if why is None and flag not in PINNED_ARITIES:
            why = "is a flag that launcher does not know"  # of a newer llama-server, or of a fork
        if why is not None:
            raise UsageError(
                f"{file} has the flag {flag[:100]!r}, which {why}: it counts only when you type it",
                hint="launcher up REF -- FLAGS, with the flags that you want",
            )
