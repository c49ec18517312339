"""Translate between quant labels and ggml types."""

# Sources at llama.cpp 0c1e570: enum llama_ftype (include/llama.h), `llama_ftype_get_default_type` and
# `llama_tensor_get_type` (src/llama-quant.cpp).

from __future__ import annotations

from collections.abc import Mapping

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Value

_GUESSED = 1024  # LLAMA_FTYPE_GUESSED

_FILE_TYPES: dict[int, tuple[str, GgmlType]] = {
    0: ("F32", GgmlType.F32),
    1: ("F16", GgmlType.F16),
    2: ("Q4_0", GgmlType.Q4_0),
    3: ("Q4_1", GgmlType.Q4_1),
    7: ("Q8_0", GgmlType.Q8_0),
    8: ("Q5_0", GgmlType.Q5_0),
    9: ("Q5_1", GgmlType.Q5_1),
    10: ("Q2_K", GgmlType.Q2_K),
    11: ("Q3_K_S", GgmlType.Q3_K),
    12: ("Q3_K_M", GgmlType.Q3_K),
    13: ("Q3_K_L", GgmlType.Q3_K),
    14: ("Q4_K_S", GgmlType.Q4_K),
    15: ("Q4_K_M", GgmlType.Q4_K),
    16: ("Q5_K_S", GgmlType.Q5_K),
    17: ("Q5_K_M", GgmlType.Q5_K),
    18: ("Q6_K", GgmlType.Q6_K),
    19: ("IQ2_XXS", GgmlType.IQ2_XXS),
    20: ("IQ2_XS", GgmlType.IQ2_XS),
    21: ("Q2_K_S", GgmlType.Q2_K),
    22: ("IQ3_XS", GgmlType.IQ3_S),
    23: ("IQ3_XXS", GgmlType.IQ3_XXS),
    24: ("IQ1_S", GgmlType.IQ1_S),
    25: ("IQ4_NL", GgmlType.IQ4_NL),
    26: ("IQ3_S", GgmlType.IQ3_S),
    27: ("IQ3_M", GgmlType.IQ3_S),
    28: ("IQ2_S", GgmlType.IQ2_XS),
    29: ("IQ2_M", GgmlType.IQ2_S),
    30: ("IQ4_XS", GgmlType.IQ4_XS),
    31: ("IQ1_M", GgmlType.IQ1_M),
    32: ("BF16", GgmlType.BF16),
    36: ("TQ1_0", GgmlType.TQ1_0),
    37: ("TQ2_0", GgmlType.TQ2_0),
    38: ("MXFP4_MOE", GgmlType.MXFP4),
    39: ("NVFP4", GgmlType.NVFP4),
    40: ("Q1_0", GgmlType.Q1_0),
    41: ("Q2_0", GgmlType.Q2_0),
}

# ik_llama.cpp's (enum llama_ftype there), whose labels are the types' names
_IK_FILE_TYPES: dict[int, str] = {
    **dict(enumerate(("Q6_0", "IQ1_BN", "IQ2_BN", "IQ2_K", "IQ3_K", "IQ4_K", "IQ5_K", "IQ6_K"), 135)),
    **dict(enumerate(("IQ2_KS", "IQ4_KSS", "Q8_KV", "IQ5_KS", "IQ2_KT", "IQ3_KT", "IQ4_KT"), 147)),
    **dict(enumerate(("IQ3_KS", "IQ2_KL", "IQ1_KT"), 154)),
    **dict(enumerate(("IQ2_BN_R4", "IQ2_K_R4", "IQ3_K_R4", "IQ4_K_R4", "IQ5_K_R4"), 337)),
    **dict(enumerate(("Q5_0_R4", "", "Q2_K_R4", "Q3_K_R4", "", "", "Q4_K_R4", "", "Q5_K_R4"), 208)),
    **dict(enumerate(("Q6_K_R4", "IQ2_XXS_R4", "IQ2_XS_R4", "", "", "IQ3_XXS_R4", "IQ1_S_R4"), 218)),
    **dict(enumerate(("IQ4_NL_R4", "IQ3_S_R4", "", "", "", "IQ4_XS_R8", "IQ1_M_R4", "BF16_R16"), 225)),
    145: "IQ4_KS",
    202: "Q4_0_R8",
    207: "Q8_0_R8",
    335: "Q6_0_R4",
    345: "IQ4_KS_R4",
    350: "IQ5_KS_R4",
    398: "Q8_KV_R8",
    399: "Q8_K_R8",
}
_FILE_TYPES |= {number: (name, GgmlType[name]) for number, name in _IK_FILE_TYPES.items() if name}

_DEFAULTS = dict(_FILE_TYPES.values()) | {
    "MXFP4": GgmlType.MXFP4,
    "Q4_X": GgmlType.Q4_0,  # jukofyork's Q4_0 with patched scales: facts of Kimi's INT4 release
    "Q8_K_XL": GgmlType.Q8_0,  # unsloth's: there is no file type Q8_K
}
_FORK_ENDINGS = ("_R4", "_R8", "_KS", "_KT", "_KL", "_KSS")  # of file types that have no type of their own

# The dominant type, and by which companion its mixes are told apart, in order: llama_tensor_get_type gives
# the better types to attn_v, attn_output and ffn_down.
_MIXES: dict[GgmlType, tuple[tuple[GgmlType, str], ...]] = {
    GgmlType.Q2_K: ((GgmlType.Q3_K, "Q2_K"), (GgmlType.Q2_K, "Q2_K_S")),
    GgmlType.Q3_K: ((GgmlType.Q4_K, "Q3_K_M"), (GgmlType.Q5_K, "Q3_K_L"), (GgmlType.Q3_K, "Q3_K_S")),
    GgmlType.Q4_K: ((GgmlType.Q6_K, "Q4_K_M"), (GgmlType.Q4_K, "Q4_K_S")),
    GgmlType.Q5_K: ((GgmlType.Q6_K, "Q5_K_M"), (GgmlType.Q5_K, "Q5_K_S")),
    GgmlType.IQ3_S: (
        (GgmlType.Q4_K, "IQ3_M"),
        (GgmlType.IQ3_XXS, "IQ3_XS"),
        (GgmlType.IQ3_S, "IQ3_S"),
    ),
    GgmlType.IQ2_XS: ((GgmlType.IQ2_XS, "IQ2_XS"),),
    GgmlType.IQ2_S: ((GgmlType.IQ2_S, "IQ2_M"),),
}


def file_type_label(value: Value | None) -> str | None:
    """Return `general.file_type` as a quant label; None if it is missing, no number, or not known."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    known = _FILE_TYPES.get(value & ~_GUESSED)
    return None if known is None else known[0]


def default_type(label: str) -> GgmlType | None:
    """Return the ggml type that most weights of a quant should have; None for labels of forks.

    >>> default_type("UD-TQ1_0").name
    'TQ1_0'
    """
    bare = label.upper().removeprefix("UD-")
    if bare in _DEFAULTS:
        return _DEFAULTS[bare]
    if bare.endswith(_FORK_ENDINGS):
        return None
    # published variants of a file type: Q2_K_XL, Q6_K_L, IQ4_NL_XL
    stems = [stem for stem in _DEFAULTS if bare.startswith(f"{stem}_")]
    if stems:
        return _DEFAULTS[max(stems, key=len)]
    return next((type_ for type_ in GgmlType if bare.startswith(f"{type_.name}_")), None)


def mix_label(amounts: Mapping[GgmlType, int]) -> str:
    """Name the quant that weights of these types make, as llama.cpp would; `amounts` are parameters.

    >>> mix_label({GgmlType.Q4_K: 9, GgmlType.Q6_K: 1})
    'Q4_K_M'
    """
    if not amounts:
        return "none"
    dominant = max(amounts, key=lambda type_: (amounts[type_], type_))
    mixes = _MIXES.get(dominant)
    if mixes is None:
        return next((label for label, type_ in _FILE_TYPES.values() if type_ is dominant), dominant.name)
    return next(label for companion, label in mixes if amounts.get(companion))
