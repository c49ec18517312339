"""The context a request may have: figures as the engine of 0c1e570 logs them (`exceeds the training context`)."""

from __future__ import annotations

import pytest

from launcher.engine.flags.rope_flags import read_rope
from launcher.errors import UsageError
from launcher.gguf.ggml import GgmlType
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope, context_limit, yarn_flags
from launcher.plan.workload import Workload
from tests.plan.planned import make_plan
from tests.plan.shapes import machine, model

PLAIN = {"general.architecture": "llama", "llama.context_length": 8192}
STRETCHED = {
    **PLAIN,
    "llama.rope.scaling.type": "yarn",
    "llama.rope.scaling.factor": 64.0,
    "llama.rope.scaling.original_context_length": 128,
}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", 8192),
        ("--rope-scale 2", 8192),
        ("--rope-scaling linear --rope-scale 2", 8192),
        ("--rope-scaling yarn", 8192),
        ("--rope-scaling yarn --rope-scale 2", 16384),
        ("--rope-scaling yarn --rope-scale 3", 24576),
        ("--rope-scaling yarn --rope-freq-scale 0.25", 32768),
        ("--rope-scaling yarn --rope-scale 7", 57343),
        ("--rope-scaling yarn --rope-scale 2 --yarn-orig-ctx 4096", 8192),
        ("--override-kv llama.context_length=int:16384", 16384),
    ],
)
def test_the_engine_caps_a_request_there(flags: str, expected: int) -> None:
    assert expected == context_limit(PLAIN, read_rope(flags.split()))


def test_a_model_that_is_stretched_already_counts_from_its_original_context() -> None:
    assert context_limit(STRETCHED, Rope()) == 8192
    assert context_limit(STRETCHED, read_rope(("--rope-scale", "64"))) == 8192
    assert context_limit(STRETCHED, read_rope(("--rope-scale", "128"))) == 16384
    assert yarn_flags(STRETCHED, 16384) == "--rope-scaling yarn --rope-scale 128"
    assert yarn_flags({}, 16384) is None
    one = {"general.architecture": "llama", "llama.context_length": 1}
    assert yarn_flags(one, 2) == "--rope-scaling yarn --rope-scale 2"


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
def test_the_files_own_factor_goes_by_two_names(key: str) -> None:
    named = {**STRETCHED, f"llama.{key}": 64.0}
    if key != "rope.scaling.factor":
        del named["llama.rope.scaling.factor"]
    assert context_limit(named, read_rope(("--rope-scale", "64"))) == 8192
    assert context_limit(named, read_rope(("--rope-scale", "32"))) == 4096
    assert context_limit(named, read_rope(("--rope-scale", "1"))) == 128  # stretched no more


@pytest.mark.parametrize("flags", ["--rope-scale 0", "--rope-scaling long", "--yarn-orig-ctx"])
def test_what_the_engine_refuses_is_refused(flags: str) -> None:
    with pytest.raises(UsageError):
        read_rope(flags.split())


def test_a_request_is_not_promised_what_the_engine_cuts() -> None:
    file, box = model("gemma3", "gemma-3-27b", expert=GgmlType.Q4_0), machine()
    trained = context_limit(file.metadata, Rope())

    with pytest.raises(UsageError) as refused:
        make_plan(file, "Q4_0", box, Workload(ctx_size=2 * trained))
    assert refused.value.hint == (
        f"-c {trained}, or add -- --rope-scaling yarn --rope-scale 2 (stretched: it answers, how well is not known)"
    )

    asked = Workload(ctx_size=2 * trained, rope=read_rope(("--rope-scaling", "yarn", "--rope-scale", "2")))
    assert not _says(make_plan(file, "Q4_0", box, asked), "trained for")

    shared = make_plan(file, "Q4_0", machine(ram_bytes=1 << 40), Workload(ctx_size=2 * trained, n_parallel=4))
    assert _says(shared, f"one request can use {trained} tokens, what the model was trained for, 4 at once")


def _says(outcome: object, text: str) -> bool:
    assert isinstance(outcome, Plan)
    return any(text in reason for reason in outcome.reasons)
