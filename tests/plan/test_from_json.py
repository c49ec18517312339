"""A plan read back from its JSON: the same plan, or a refusal in one sentence; never a crash."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.plan.amounts import HOST, Amount, Basis, LedgerRow
from launcher.plan.as_json import plan_json, shortfall_json
from launcher.plan.forecast.turn import Band, Forecast, Turn
from launcher.plan.from_json import from_json
from launcher.plan.modes import CacheType, FlashAttention, LoadMode, NumaMode, TensorOverride
from launcher.plan.plan import Placement, Plan, Shortfall
from launcher.plan.workload import Workload
from tests.plan.golden import CASES
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

NAMES = st.text("abcXYZ019-_./:é ", max_size=12)
SIZES = st.integers(0, 1 << 48)
COUNTS = st.integers(0, 1 << 16)
SPEEDS = st.builds(
    Band, low=st.integers(0, 10**7), mid=st.integers(0, 10**7), high=st.integers(0, 10**7)
).map(lambda band: Band(low=band.low / 100, mid=band.mid / 100, high=band.high / 100))
AMOUNTS = st.builds(Amount, n_bytes=SIZES, basis=st.sampled_from(Basis), band_bytes=SIZES)


def rows(where: str, name: str) -> st.SearchStrategy[LedgerRow]:
    return st.builds(
        LedgerRow,
        where=st.just(where),
        name=st.just(name),
        weights=AMOUNTS,
        kv=AMOUNTS,
        compute=AMOUNTS,
        cache=AMOUNTS,
        overhead=AMOUNTS,
        adapters=AMOUNTS,
        budget_bytes=st.integers(-(1 << 48), 1 << 48),
    )


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    n_block = draw(st.integers(0, 90))
    split = draw(st.lists(st.integers(0, (n_block + 1) // 3), max_size=3))
    blocks = st.integers(0, n_block)
    kinds = st.lists(st.sampled_from(("up", "down", "gate", "gate_up")), max_size=3).map(tuple)
    return Placement(
        n_block=n_block,
        n_gpu_layers=sum(split),
        devices=tuple(f"CUDA{index}" for index in range(len(split))),
        tensor_split=tuple(split),
        host_expert_blocks=tuple(draw(st.lists(blocks, max_size=4))),
        host_expert_parts=tuple(draw(st.lists(st.tuples(blocks, kinds), max_size=3))),
        overrides=tuple(
            draw(
                st.lists(
                    st.builds(
                        TensorOverride,
                        pattern=st.text(r"blk.\d+()|", max_size=9),
                        where=st.just(HOST) | NAMES,
                    ),
                    max_size=3,
                )
            )
        ),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    placement = draw(placements())
    return Plan(
        model_id=draw(NAMES),
        source=draw(NAMES),
        quant=draw(NAMES),
        size_bytes=draw(SIZES),
        ctx_size=draw(st.integers(0, 1 << 24)),
        n_parallel=draw(COUNTS),
        cache_type_k=draw(st.sampled_from(CacheType)),
        cache_type_v=draw(st.sampled_from(CacheType)),
        batch_size=draw(COUNTS),
        ubatch_size=draw(COUNTS),
        flash_attn=draw(st.sampled_from(FlashAttention)),
        load_mode=draw(st.sampled_from(LoadMode)),
        cache_ram_bytes=draw(SIZES),
        ctx_checkpoints=draw(COUNTS),
        threads=draw(COUNTS),
        placement=placement,
        ledger=(
            *(draw(rows(device, draw(NAMES))) for device in placement.devices),
            *draw(st.lists(rows(HOST, HOST), min_size=0, max_size=1)),
        ),
        reasons=tuple(draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3))),
        numa=draw(st.none() | st.sampled_from(NumaMode)),
        cpus=tuple(draw(st.lists(st.integers(0, 300), max_size=9))),
        forecast=draw(
            st.none()
            | st.builds(
                Forecast,
                turn=st.builds(Turn, cached_tokens=COUNTS, prompt_tokens=COUNTS, reply_tokens=COUNTS),
                decode=SPEEDS,
                prefill=SPEEDS,
                turn_seconds=SPEEDS,
                assumptions=st.lists(NAMES, max_size=2).map(tuple),
                measured=st.none() | NAMES,
            )
        ),
        simulated_by=draw(st.none() | NAMES),
    )


def stored(document: dict[str, Any]) -> Any:
    return json.loads(json.dumps(document))


@given(plans())
def test_a_plan_is_read_back_as_it_was(plan: Plan) -> None:
    assert from_json(stored(plan_json(plan))) == plan


@pytest.mark.parametrize("name", CASES)
def test_a_plan_of_the_planner_is_read_back_with_its_speeds_rounded(name: str) -> None:
    file, box, workload = CASES[name]
    plan = make_plan(file, "Q4_0", box, workload)
    if isinstance(plan, Shortfall):
        with pytest.raises(UsageError, match="fits is false"):
            from_json(stored(shortfall_json(plan)))
        return
    document = stored(plan_json(plan, argv=("llama-server",), env={"A": "B"}))
    again = from_json(document)
    assert replace(again, forecast=None) == replace(plan, forecast=None)
    assert again.forecast is not None
    assert stored(plan_json(again, argv=("llama-server",), env={"A": "B"})) == document


def a_document() -> dict[str, Any]:
    plan = make_plan(model(), "Q4_0", machine(*cards(250, 120)), Workload(ctx_size=2048))
    assert isinstance(plan, Plan)
    return stored(plan_json(plan))  # type: ignore[no-any-return]


DOCUMENT = a_document()


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, containers first."""
    if path:
        yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from paths(child, (*path, key))


def changed(path: tuple[str | int, ...], value: object) -> Any:
    """The document with another value in one place; without the place where the value is `...`."""
    document = copy.deepcopy(DOCUMENT)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


ODD: tuple[object, ...] = (
    ...,
    None,
    True,
    -1,
    0,
    1 << 70,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "0-1,\u0663",
    "\ud800",
    "9" * 5000,
    [],
    [None],
    [[]],
    {},
    {"id": 1},
)


def read(document: object) -> None:
    """Read it, or be refused in a sentence with a hint. What was read can be stored."""
    try:
        plan = from_json(document)
    except UsageError as error:
        refusal = error
    else:
        assert from_json(stored(plan_json(plan))) == plan
        return
    assert refusal.message.startswith("the plan cannot be read: ")
    assert "\n" not in refusal.message
    assert refusal.hint


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
def test_no_field_of_another_kind_is_a_crash(value: object) -> None:
    for path in paths(DOCUMENT):
        read(changed(path, value))


@pytest.mark.parametrize(
    "key", ["schema", "fits", "model", "quant", "context", "settings", "placement", "devices"]
)
def test_a_document_without_what_a_plan_needs_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match=f"the plan cannot be read: {key} is "):
        from_json(changed((key,), ...))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda children: (
            st.lists(children) | st.dictionaries(st.sampled_from(sorted(DOCUMENT)) | st.text(), children)
        ),
    )
)
def test_any_json_is_read_or_refused(document: object) -> None:
    read(document)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("schema",), 2, "schema is 2; this launcher reads 1"),
        (("schema",), "1", "schema is not a whole number"),
        (("quant",), ..., "quant is not a text"),
        (("settings", "cache_type_k"), "q3", "settings.cache_type_k is 'q3', not one of f32, "),
        (("settings", "cpus"), "0-", "settings.cpus is not a list of CPUs like 0-3,8"),
        (("settings", "cpus"), ",".join(["0-4000"] * 9), "settings.cpus is not a list of CPUs"),
        (("placement", "n_gpu_layers"), 99, "placement.n_gpu_layers is 99, not from 0 to 13"),
        (("placement", "tensor_split"), [13], "placement.tensor_split has not one number for each device"),
        (("placement", "tensor_split"), [1, 1], "placement.tensor_split does not sum to n_gpu_layers"),
        (("placement", "overrides"), ["exps"], "placement.overrides has a rule without a place"),
        (("devices", 1, "kv_bytes"), -1, r"devices\[1\].kv_bytes is not a whole number"),
        (("host", "used_bytes"), 5, "host.used_bytes is not the sum of its amounts"),
        (("forecast", "decode_tps", "low"), float("nan"), "forecast.decode_tps.low is not a number"),
    ],
)
def test_a_refusal_names_the_field(path: tuple[str | int, ...], value: object, problem: str) -> None:
    with pytest.raises(UsageError, match=f"the plan cannot be read: {problem}"):
        from_json(changed(path, value))


def test_documents_from_before_some_fields_are_read() -> None:
    """Schema 1 of the first version: no NUMA, CPUs, parts of blocks, overrides, further files, forecast, bands."""
    old = copy.deepcopy(DOCUMENT)
    old["settings"]["warmup"] = True
    for key in ("numa", "cpus"):
        del old["settings"][key]
    for key in ("host_expert_parts", "overrides"):
        del old["placement"][key]
    for row in (*old["devices"], old["host"]):
        del row["extra_bytes"], row["basis"]["extra"], row["bands"]
    del old["simulated_by"]
    old["forecast"] = old["env"] = None
    plan, new = from_json(old), from_json(DOCUMENT)
    assert [row.used_bytes for row in plan.ledger] == [row.used_bytes for row in new.ledger]
    assert [without_bands(row) for row in plan.ledger] == [without_bands(row) for row in new.ledger]
    placement = replace(new.placement, host_expert_parts=())
    assert replace(plan, ledger=()) == replace(new, ledger=(), forecast=None, placement=placement)


def without_bands(row: LedgerRow) -> tuple[tuple[int, Basis], ...]:
    return tuple((amount.n_bytes, amount.basis) for amount in row.amounts)
