from __future__ import annotations

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Value
from launcher.gguf.quants import default_type, file_type_label, mix_label


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (2, "Q4_0"),
        (15, "Q4_K_M"),
        (147, "IQ2_KS"),
        (337, "IQ2_BN_R4"),
        (1024 + 7, "Q8_0"),
        (4, None),
        ("2", None),
        (True, None),
        (None, None),
    ],
)
def test_general_file_type(value: Value | None, label: str | None) -> None:
    assert file_type_label(value) == label


@pytest.mark.parametrize(
    ("label", "type_"),
    [
        ("Q4_K_M", GgmlType.Q4_K),
        ("UD-Q2_K_XL", GgmlType.Q2_K),
        ("UD-IQ2_M", GgmlType.IQ2_S),
        ("IQ2_S", GgmlType.IQ2_XS),
        ("Q4_X", GgmlType.Q4_0),
        ("Q8_K_XL", GgmlType.Q8_0),
        ("Q6_K_L", GgmlType.Q6_K),
        ("Q3_K_XL", GgmlType.Q3_K),
        ("IQ4_NL_XL", GgmlType.IQ4_NL),
        ("MXFP4", GgmlType.MXFP4),
        ("IQ4_KS_R4", GgmlType.IQ4_KS_R4),
        ("IQ2_KL", GgmlType.IQ2_KL),
        ("smol-IQ2_XS", None),
        ("Q4_0_R4", None),
        ("Q8_0_R8", GgmlType.Q8_0_R8),
        ("Q9_Z", None),
        ("", None),
    ],
)
def test_the_type_a_label_stands_for(label: str, type_: GgmlType | None) -> None:
    assert default_type(label) is type_


@pytest.mark.parametrize(
    ("amounts", "label"),
    [
        ({GgmlType.Q4_K: 9, GgmlType.Q6_K: 1}, "Q4_K_M"),
        ({GgmlType.Q4_K: 9, GgmlType.Q5_K: 1}, "Q4_K_S"),
        ({GgmlType.Q5_K: 9, GgmlType.Q6_K: 1}, "Q5_K_M"),
        ({GgmlType.Q3_K: 9, GgmlType.Q5_K: 4}, "Q3_K_L"),
        ({GgmlType.Q3_K: 9, GgmlType.Q5_K: 1, GgmlType.Q4_K: 3}, "Q3_K_M"),
        ({GgmlType.Q3_K: 9}, "Q3_K_S"),
        ({GgmlType.Q2_K: 9, GgmlType.Q3_K: 4}, "Q2_K"),
        ({GgmlType.Q2_K: 9, GgmlType.Q4_K: 1}, "Q2_K_S"),
        ({GgmlType.IQ2_S: 9}, "IQ2_M"),
        ({GgmlType.TQ1_0: 9}, "TQ1_0"),
        ({GgmlType.MXFP4: 9, GgmlType.Q8_0: 1}, "MXFP4_MOE"),
        ({GgmlType.I32: 1}, "I32"),
        ({}, "none"),
    ],
)
def test_the_quant_that_types_make(amounts: dict[GgmlType, int], label: str) -> None:
    assert mix_label(amounts) == label
