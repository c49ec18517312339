"""Read the flags that change how long a context the model takes. Pure.

Spellings from common/arg.cpp at 0c1e570.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from launcher.engine.flags.user_flags import split_flags
from launcher.errors import UsageError
from launcher.plan.rope import Rope, Scaling

ROPE_FLAGS = frozenset(
    {"--rope-scaling", "--rope-scale", "--rope-freq-scale", "--yarn-orig-ctx", "--override-kv"}
)
_TRAINED = re.compile(r"(?:^|,)[^,=]+\.context_length=int:(\d+)(?:,|$)")


def read_rope(flags: Sequence[str]) -> Rope:
    """Return the RoPE settings of these flags. Raises UsageError for values llama-server would refuse."""
    fields: dict[str, Any] = {}
    for name, words in split_flags(flags):
        if name not in ROPE_FLAGS:
            continue
        try:
            _, text = words
            if name == "--rope-scaling":
                fields["scaling"] = Scaling(text)
            elif name == "--rope-scale":
                fields["freq_scale"] = 1 / float(text)
            elif name == "--rope-freq-scale":
                fields["freq_scale"] = float(text)
            elif name == "--yarn-orig-ctx":
                fields["original_ctx"] = int(text)
            elif trained := _TRAINED.search(text):
                fields["trained"] = int(trained[1])
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"{' '.join(words)} is nothing llama-server would take") from None
    return Rope(**fields)
