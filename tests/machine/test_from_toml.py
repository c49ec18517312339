from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.from_words import ASSUMED_CPU, ASSUMED_CPU_NOTE
from launcher.machine.machine import (
    Link,
)
from launcher.machine.to_toml import format_machine
from launcher.units import GIB, MIB

MACHINES = Path(__file__).parents[2] / "profiles" / "machines"
EXPECTED = {
    "8xh100-80g": (8, "CUDA7", 2048),
    "8xh200-141g": (8, "CUDA7", 2048),
    "8xa100-80g": (8, "CUDA7", 2048),
    "2xh100-80g": (2, "CUDA1", 512),
    "4xa100-80g-256g": (4, "CUDA3", 256),
    "1x4090-24g-256g": (1, "CUDA0", 256),
    "2x3090-24g-128g": (2, "CUDA1", 128),
    "3090-3060": (2, "CUDA1", 64),
    "m3ultra-512g": (1, "MTL0", 512),
    "strix-halo-128g": (1, "Vulkan0", 127),
    "epyc2-768g-5090": (1, "CUDA0", 768),
    "laptop-16g": (0, None, 16),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_machine_files(name: str) -> None:
    machine = parse_machine((MACHINES / f"{name}.toml").read_text(), f"{name}.toml")
    count, last, ram_gib = EXPECTED[name]
    assert len(machine.devices) == count
    assert (machine.devices[-1].id if machine.devices else None) == last
    assert machine.ram_total_bytes == ram_gib * GIB
    assert machine.ram_total_bytes // 2 <= machine.ram_available_bytes < machine.ram_total_bytes
    assert machine.notes == ()
    assert machine.cpu.isa
    assert sum(node.total_bytes for node in machine.nodes) in {0, machine.ram_total_bytes}
    assert sum(len(node.cpus) for node in machine.nodes) in {0, machine.cpu.logical_cores}
    assert parse_machine(format_machine(machine), name) == machine


def test_no_other_machine_files() -> None:
    assert {path.stem for path in MACHINES.iterdir()} == set(EXPECTED)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_other_text_is_a_usage_error(garbage: str) -> None:
    with pytest.raises(UsageError, match=r"x\.toml"):
        parse_machine(garbage, "x.toml")


def test_defaults_of_a_hand_written_file() -> None:
    machine = parse_machine('[ram]\ntotal = "256 GiB"\n[[device]]\ngpu = "3090"\ncount = 2\n', "m.toml")
    assert (machine.os, machine.arch, machine.cpu, machine.store) == ("linux", "x86_64", ASSUMED_CPU, None)
    assert machine.notes == (ASSUMED_CPU_NOTE,)
    assert machine.ram_available_bytes == 250 * GIB  # 256 minus 4 of page descriptors and 2 for the system
    first, second = machine.devices
    assert (first.id, second.id, first.total_bytes, first.free_bytes) == (
        "CUDA0",
        "CUDA1",
        24576 * MIB,
        24121 * MIB,
    )
    assert first.link == Link(pcie_generation=4, pcie_width=16)


def test_a_card_can_be_changed() -> None:
    changes = 'pcie_width=4\ntotal="20 GiB"\nid="CUDA5"\nfree="unknown"\nname="Mine"'
    text_ = f'[ram]\ntotal=1024\n[[device]]\ngpu="3090"\n{changes}'
    (card,) = parse_machine(text_, "m.toml").devices
    assert (card.id, card.name, card.total_bytes, card.free_bytes) == ("CUDA5", "Mine", 20 * GIB, None)
    assert card.link == Link(pcie_generation=4, pcie_width=4)


RAM = '[ram]\ntotal = "8 GiB"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["ram is missing"]),
        ("ram = 3", ["ram is 3"]),
        ("[ram]\n", ["ram.total is missing"]),
        ('[ram]\ntotal = "much"', ["ram.total is 'much'", "80 GiB"]),
        ("[ram]\ntotal = true", ["ram.total is True"]),
        ("[ram]\ntotal = -5", ["ram.total is -5"]),
        ('[ram]\ntotal = "9000000 TiB"', ["ram.total", "1048576.0 TiB"]),
        ('[ram]\ntotal = "8 GiB"\navailable = "9 GiB"', ["ram.available is '9 GiB'", "to 8.0 GiB"]),
        (RAM + "swap = 1", ["ram.swap is not a known key"]),
        (RAM + "[cpu]\nphysical_cores = 0", ["cpu.physical_cores is 0", "from 1 to 8192"]),
        (RAM + "[cpu]\nname = 'x'", ["cpu.logical_cores is missing"]),
        (RAM + "[[device]]\ngpu = '3099'", ["device[1].gpu is '3099'"]),
        (RAM + "[[device]]\ngpu = '3090'\ncount = 17", ["device[1].count is 17", "from 1 to 16"]),
        (
            RAM + "[[device]]\ngpu = '3090'\ncount = 16\n[[device]]\ngpu = '3060'",
            ["lists 17 devices", "at most 16"],
        ),
        (RAM + "[[device]]\ngpu = '3090'\ncount = 2\nid = 'A'", ["device[1].id", "for 2 devices"]),
        (
            RAM + "[[device]]\ngpu = '3090'\n[[device]]\ngpu='3090'\nid = 'CUDA0'",
            ["'CUDA0' is the name of 2 devices"],
        ),
        (RAM + "[[device]]\ngpu = '3090'\nfree = '25 GiB'", ["device[1].free", "to 24.0 GiB"]),
        (RAM + "[[device]]\ngpu = '3090'\ncarve_out = '1 GiB'", ["device[1].carve_out", "share"]),
        (RAM + "[[device]]\nbackend = 'cpu'", ["device[1].backend is 'cpu'", "cuda, hip"]),
        (RAM + "[[device]]\nbackend = 'cuda'\nname = 'x'", ["device[1].total is missing"]),
        (RAM + "[[device]]\ngpu = '3090'\npcie_width = 'wide'", ["device[1].pcie_width is 'wide'"]),
        (RAM + "[[node]]\nnode = 0\ntotal = '1 GiB'\ncpus = '5-1'", ["node[1].cpus is '5-1'"]),
        (RAM + "[[node]]\nnode = 0\ntotal = '1 GiB'\ncpus = '0-99999999999'", ["node[1].cpus", "8192"]),
        (RAM + "[store]\npath = '/m'\ntotal = 5\nfree = 6", ["store.free is 6"]),
        ("[ram", ["m.toml is not TOML"]),
    ],
)
def test_errors_name_key_value_and_limit(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_machine(text, "m.toml")
    assert "m.toml" in caught.value.message
    for word in words:
        assert word in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "9" * 5000, "m.toml is not TOML: it has a number of thousands of digits"),
        (
            "[ram]\ntotal = 0x" + "f" * 5000,
            "m.toml: ram.total is a number of thousands of digits, not a size",
        ),
    ],
)
def test_a_number_without_end(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_machine(text, "m.toml")
