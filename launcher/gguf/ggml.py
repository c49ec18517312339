"""Know ggml's tensor types: id, name, elements per block, bytes per block."""

# Source: ggml/include/ggml.h (enum ggml_type) and the type_traits table in ggml/src/ggml.c, llama.cpp
# 0c1e570. Ids 4, 5, 31-33 and 36-38 were removed there and are refused here, as llama.cpp refuses them.
# Those from 133 on are ik_llama.cpp's own (the same two files there, in ik-llama-cpp-python 0.1.5).

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

from launcher.errors import BadGguf


class GgmlType(IntEnum):
    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42
    Q6_0 = 133
    IQ1_BN = 134
    IQ2_BN = 135
    IQ2_K = 137
    IQ3_K = 138
    IQ4_K = 139
    IQ5_K = 140
    IQ6_K = 141
    IQ4_KS = 144
    IQ2_KS = 145
    IQ4_KSS = 146
    Q8_KV = 151
    IQ5_KS = 152
    IQ2_KT = 153
    IQ3_KT = 154
    IQ4_KT = 155
    IQ3_KS = 156
    IQ2_KL = 157
    IQ1_KT = 158
    Q4_0_R8 = 202
    Q5_0_R4 = 206
    Q8_0_R8 = 208
    Q2_K_R4 = 210
    Q3_K_R4 = 211
    Q4_K_R4 = 212
    Q5_K_R4 = 213
    Q6_K_R4 = 214
    IQ2_XXS_R4 = 216
    IQ2_XS_R4 = 217
    IQ3_XXS_R4 = 218
    IQ1_S_R4 = 219
    IQ4_NL_R4 = 220
    IQ3_S_R4 = 221
    IQ2_S_R4 = 222
    IQ4_XS_R8 = 223
    IQ1_M_R4 = 229
    BF16_R16 = 230
    Q6_0_R4 = 233
    IQ2_BN_R4 = 335
    IQ2_K_R4 = 337
    IQ3_K_R4 = 338
    IQ4_K_R4 = 339
    IQ5_K_R4 = 340
    IQ4_KS_R4 = 344
    IQ5_KS_R4 = 352
    Q8_KV_R8 = 398
    Q8_K_R8 = 399


_REMOVED = frozenset({4, 5, 31, 32, 33, 36, 37, 38})
_FIRST_OF_IK = GgmlType.Q6_0
IK_TYPES = frozenset(type_ for type_ in GgmlType if type_ >= _FIRST_OF_IK)
# that ik_llama.cpp, which left llama.cpp in 2024, does not have
NOT_IN_IK = frozenset({GgmlType.TQ1_0, GgmlType.TQ2_0, GgmlType.NVFP4, GgmlType.Q2_0})


# elements and bytes per block (ggml/src/ggml-common.h, the QK_* and block_* definitions)
BLOCKS: dict[GgmlType, tuple[int, int]] = {
    GgmlType.F32: (1, 4),
    GgmlType.F16: (1, 2),
    GgmlType.BF16: (1, 2),
    GgmlType.F64: (1, 8),
    GgmlType.I8: (1, 1),
    GgmlType.I16: (1, 2),
    GgmlType.I32: (1, 4),
    GgmlType.I64: (1, 8),
    GgmlType.Q4_0: (32, 18),
    GgmlType.Q4_1: (32, 20),
    GgmlType.Q5_0: (32, 22),
    GgmlType.Q5_1: (32, 24),
    GgmlType.Q8_0: (32, 34),
    GgmlType.Q8_1: (32, 36),
    GgmlType.Q2_K: (256, 84),
    GgmlType.Q3_K: (256, 110),
    GgmlType.Q4_K: (256, 144),
    GgmlType.Q5_K: (256, 176),
    GgmlType.Q6_K: (256, 210),
    GgmlType.Q8_K: (256, 292),
    GgmlType.IQ2_XXS: (256, 66),
    GgmlType.IQ2_XS: (256, 74),
    GgmlType.IQ3_XXS: (256, 98),
    GgmlType.IQ1_S: (256, 50),
    GgmlType.IQ4_NL: (32, 18),
    GgmlType.IQ3_S: (256, 110),
    GgmlType.IQ2_S: (256, 82),
    GgmlType.IQ4_XS: (256, 136),
    GgmlType.IQ1_M: (256, 56),
    GgmlType.TQ1_0: (256, 54),
    GgmlType.TQ2_0: (256, 66),
    GgmlType.MXFP4: (32, 17),
    GgmlType.NVFP4: (64, 36),
    GgmlType.Q1_0: (128, 18),
    GgmlType.Q2_0: (64, 18),
    GgmlType.Q6_0: (32, 26),
    GgmlType.IQ1_BN: (64, 13),
    GgmlType.IQ2_BN: (64, 16),
    GgmlType.IQ2_K: (256, 76),
    GgmlType.IQ3_K: (256, 110),
    GgmlType.IQ4_K: (256, 144),
    GgmlType.IQ5_K: (256, 176),
    GgmlType.IQ6_K: (256, 212),
    GgmlType.IQ4_KS: (256, 136),
    GgmlType.IQ2_KS: (256, 70),
    GgmlType.IQ4_KSS: (256, 128),
    GgmlType.Q8_KV: (32, 32),
    GgmlType.IQ5_KS: (256, 168),
    GgmlType.IQ2_KT: (256, 68),
    GgmlType.IQ3_KT: (256, 100),
    GgmlType.IQ4_KT: (256, 128),
    GgmlType.IQ3_KS: (256, 102),
    GgmlType.IQ2_KL: (256, 86),
    GgmlType.IQ1_KT: (256, 56),
    GgmlType.IQ1_S_R4: (32, 6),
    GgmlType.IQ1_M_R4: (32, 7),
    GgmlType.Q8_KV_R8: (32, 32),
    GgmlType.Q8_K_R8: (256, 258),
}
# Rows interleaved by 4, 8 or 16 take what they took before.
BLOCKS |= {type_: BLOCKS[GgmlType[type_.name.rpartition("_R")[0]]] for type_ in IK_TYPES - BLOCKS.keys()}
# Bytes before the blocks of each row, a scale of it (row_meta_size in ik_llama.cpp's type_traits).
ROW_BYTES: dict[GgmlType, int] = {
    **dict.fromkeys((GgmlType.IQ1_S_R4, GgmlType.IQ1_M_R4, GgmlType.IQ1_BN), 2),
    **dict.fromkeys((GgmlType.IQ2_KS, GgmlType.IQ3_KS, GgmlType.IQ2_KL), 2),
    **dict.fromkeys((GgmlType.IQ2_BN, GgmlType.IQ2_BN_R4, GgmlType.Q8_KV_R8), 4),
    **dict.fromkeys((GgmlType.IQ4_KS, GgmlType.IQ4_KS_R4, GgmlType.IQ4_KSS), 4),
    **dict.fromkeys((GgmlType.IQ5_KS, GgmlType.IQ5_KS_R4), 4),
    **dict.fromkeys((GgmlType.IQ1_KT, GgmlType.IQ2_KT, GgmlType.IQ3_KT, GgmlType.IQ4_KT), 4),
    GgmlType.Q8_KV: 8,
}


def was_removed(number: int) -> bool:
    """Tell if llama.cpp had a type of this id and has it no more."""
    return number in _REMOVED


def tensor_bytes(shape: Sequence[int], type_: GgmlType) -> int:
    """Return the size of a tensor in bytes. Raises BadGguf if its rows are not whole blocks."""
    per_block, block_bytes = BLOCKS[type_]
    if shape[0] % per_block:
        raise BadGguf(f"rows of {shape[0]} elements are no multiple of {type_.name}'s {per_block}")
    n_elements = math.prod(shape)
    rows = n_elements // shape[0] if n_elements else 0
    return n_elements // per_block * block_bytes + rows * ROW_BYTES.get(type_, 0)
