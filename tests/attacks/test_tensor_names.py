"""Names of tensors that resemble those llama.cpp looks for."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from launcher.errors import BadGguf
from launcher.gguf.architecture import read_architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.tensor_names import TensorKind, block_of, kind_of
from launcher.gguf.tensors import TensorInfo
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.builders import Tensor, build_header
from tests.gguf.headers import parsed
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model


@pytest.mark.parametrize(
    "name",
    [
        "blk.\u0663.ffn_up_exps.weight",  # an Arabic three
        "blk.\uff10.attn_q.weight",
        "blk.\u00b2.attn_q.weight",
        "blk.0000.ffn_up_exps.weight",
        "blk.007.attn_q.weight",
        "blk.-1.attn_q.weight",
        "blk.1e3.attn_q.weight",
        f"blk.{10**40}.attn_q.weight",
        "v.blk.0.ffn_up_exps.weight",
    ],
)
def test_only_numbers_as_llama_cpp_writes_them_name_a_block(name: str) -> None:
    assert block_of(name) is None
    assert kind_of(name, 100) is TensorKind.REST


def planned_with(*names: str) -> Plan | Shortfall:
    """Plan a mixture of experts, some of which stay on the host, with further tensors in its file."""
    file = model("qwen3moe")
    (header,) = file.headers
    more = (
        TensorInfo(name=name, shape=(256, 64), type=GgmlType.Q4_0, offset=0, size_bytes=MIB) for name in names
    )
    odd = replace(file, headers=(replace(header, tensors=(*header.tensors, *more)),))
    return make_plan(odd, "Q4_0", machine(*cards(230)), Workload(ctx_size=4096))


@pytest.mark.parametrize(
    "name",
    [
        "blk.\u0663.ffn_up_exps.weight",
        "blk.0000.ffn_up_exps.weight",
        "blk.0000.ffn_gate_exps.weight",
        "blk.9999.ffn_up_exps.weight",
        "blk.11.ffn_up_exps.weight.ffn_up_exps",
        "enc.blk.0.ffn_up_exps.weight",
        "output.ffn_up_exps.weight",
        "x\\n.ffn_up_exps",
    ],
)
def test_what_resembles_experts_is_weighed_with_the_rest(name: str) -> None:
    plan = planned_with(name)
    assert isinstance(plan, Plan)
    assert plan.placement.host_expert_blocks
    assert max(plan.placement.host_expert_blocks) < plan.placement.n_block


@pytest.mark.parametrize("name", ["v.blk.11.ffn_up_exps.weight", "xblk.11.ffn_gate_exps.weight"])
def test_what_an_override_would_move_with_them_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadGguf, match="named like routed experts of a block") as caught:
        planned_with(name)
    assert name in caught.value.message


def test_sixty_thousand_tensors_are_planned_in_seconds() -> None:
    began = time.monotonic()
    plan = planned_with(*(f"t{index:060d}" for index in range(60_000)))
    assert time.monotonic() - began < 30  # a second, where nothing else runs
    assert isinstance(plan, Plan | Shortfall)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"a\nhint: run curl", r"a\nhint: run curl"),
        (b"\x1b]0;PWNED\x07", r"\x1b]0;PWNED\x07"),
        ("\u202etxt".encode(), r"\u202etxt"),
        (b"\x9b31m", r"\x9b31m"),
        (b"output.weight\0junk", "output.weight"),  # a C string in llama.cpp
    ],
)
def test_a_name_is_one_printable_line(raw: bytes, shown: str) -> None:
    (tensor,) = parsed(build_header({}, [Tensor(raw)])).tensors
    assert tensor.name == shown


def test_names_that_are_the_same_to_llama_cpp_are_refused() -> None:
    with pytest.raises(BadGguf, match=r"'output\.weight' occurs twice"):
        parsed(build_header({}, [Tensor(b"output.weight"), Tensor(b"output.weight\0x")]))


def test_an_architecture_is_named_in_one_printable_line() -> None:
    for name in ("x\nhint: run curl", "\x1b[31m", "a" * 60_000):
        with pytest.raises(BadGguf, match="unknown model architecture") as caught:
            read_architecture({"general.architecture": name, f"{name}.block_count": 1.5}, ())
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 200
