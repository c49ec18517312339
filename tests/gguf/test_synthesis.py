from __future__ import annotations

import pytest

from launcher.errors import BadGguf
from launcher.gguf.ggml import GgmlType
from launcher.gguf.synthesis import TensorFamily, TypeRule, assign_types


def test_a_total_is_met_from_below_in_the_rules_order() -> None:
    families = [
        TensorFamily(name="a.{}", shape=(256, 4), first=0, last=3),
        TensorFamily(name="b", shape=(256, 4)),
    ]
    rules = [
        TypeRule(match="^a", types=(GgmlType.Q4_K, GgmlType.Q6_K)),
        TypeRule(match=".", types=(GgmlType.Q4_K, GgmlType.Q8_0)),
    ]
    least = sum(tensor.size_bytes for tensor in assign_types(families, rules, None))
    step = 4 * (210 - 144)
    some = assign_types(families, rules, least + 2 * step + 31)
    assert [tensor.type.name for tensor in some] == ["Q6_K", "Q6_K", "Q4_K", "Q4_K", "Q4_K"]
    with pytest.raises(BadGguf, match="more than the file's"):
        assign_types(families, rules, least - 1000)
    with pytest.raises(BadGguf, match="no rule of this recipe gives b a type"):
        assign_types(families, rules[:1], None)
