"""Machines, profiles and the config file are text of anybody: a value, or a UsageError of one printable line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.machine import MAX_DEVICES, Machine
from launcher.models.profiles.from_toml import parse_model_profile
from launcher.system.settings import read_config
from launcher.units import MIB
from tests.attacks.bounds import bounded, check_sentence
from tests.attacks.test_properties_claims import EXAMPLES

MOST_BYTES = 32 * MIB
ROOT = Path(__file__).parents[2]
PROFILE = (ROOT / "profiles/models/smollm2-135m.toml").read_text(encoding="utf-8")
MACHINE = (ROOT / "profiles/machines/epyc2-768g-5090.toml").read_text(encoding="utf-8")

scalars = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 10**400)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=30)
    | st.sampled_from(["80 GiB", "unknown", "1e999", "9" * 5000, "cuda", "3090", "0-999999999", "\x1b[2J"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["total", "gpu", "count", "name", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)
machines = st.fixed_dictionaries(
    {
        "ram": values
        | st.fixed_dictionaries({"total": values | st.just("64 GiB")}, optional={"limit": values})
    },
    optional={
        "cpu": values | st.fixed_dictionaries({"logical_cores": values}, optional={"isa": values}),
        "device": values
        | st.lists(
            st.fixed_dictionaries(
                {"gpu": values | st.just("3090")}, optional={"count": values, "id": values}
            ),
            max_size=5,
        ),
        "node": values
        | st.lists(st.fixed_dictionaries({"node": values, "cpus": values, "total": values}), max_size=3),
        "notes": values,
        "os": values,
    },
)


def read(parse: Callable[[str], Any], text: str) -> Any:
    with bounded(MOST_BYTES):
        try:
            return parse(text)
        except UsageError as error:
            check_sentence(error.message)
            return None


def machine_of(text: str) -> Machine | None:
    machine: Machine | None = read(lambda text: parse_machine(text, "m"), text)
    if machine is not None:
        assert 0 < machine.ram_total_bytes <= 1 << 60
        assert len(machine.devices) <= MAX_DEVICES
        assert len({device.id for device in machine.devices}) == len(machine.devices)
    return machine


def config_of(text: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(text, encoding="utf-8")
        return read_config(path)


def bent(text: str, changes: list[tuple[int, str]]) -> str:
    lines = text.splitlines()
    for at, value in changes:
        number = at % len(lines)
        key, equals, _ = lines[number].partition("=")
        lines[number] = f"{key}= {value}" if equals else value
    return "\n".join(lines)


tokens = st.sampled_from(
    ["9" * 5000, "1e999", "-1", "nan", "[" * 500, '"\\u001b[2J"', '"a\\nhint: rm"', "{}", "true", "", "[[quants]]",
     "0x" + "f" * 5000, '""', "1979-05-27", '"' + "x" * 5000 + '"', "= =", "[a.b.c]", "10" * 20]
)  # fmt: skip
changes = st.lists(st.tuples(st.integers(0, 10_000), tokens), max_size=5)


@EXAMPLES
@given(machines)
def test_machines_of_any_values(document: dict[str, Any]) -> None:
    try:
        text = tomli_w.dumps(document)
    except ValueError:  # more digits than Python writes
        return
    machine_of(text)


@EXAMPLES
@given(changes)
def test_machines_that_are_bent(changed: list[tuple[int, str]]) -> None:
    machine_of(bent(MACHINE, changed))


@EXAMPLES
@given(changes)
def test_profiles_that_are_bent(changed: list[tuple[int, str]]) -> None:
    read(lambda text: parse_model_profile(text, "m"), bent(PROFILE, changed))


@EXAMPLES
@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_text_of_any_kind(text: str) -> None:
    machine_of(text)
    read(lambda text: parse_model_profile(text, "m"), text)
    read(config_of, text)


@EXAMPLES
@given(st.dictionaries(st.sampled_from(["engine", "x"]), values, max_size=2), changes)
def test_configs_of_any_values(document: dict[str, Any], changed: list[tuple[int, str]]) -> None:
    read(config_of, bent('engine = "/opt/llama-server"\n', changed))
    try:
        text = tomli_w.dumps(document)
    except ValueError:
        return
    config = read(config_of, text)
    assert config is None or isinstance(config.get("engine", ""), str)
