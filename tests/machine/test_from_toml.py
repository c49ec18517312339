from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import LauncherError, NotFound, UsageError
from launcher.machine.from_toml import format_machine, parse_machine
from launcher.machine.from_words import ASSUMED_CPU, ASSUMED_CPU_NOTE, ID_PREFIX, adhoc_machine
from launcher.machine.gpus import GPU_NAMES, gpu_named, idle_device, metal_working_set
from launcher.machine.machine import (
    Backend,
    Cpu,
    Device,
    Filesystem,
    Link,
    Machine,
    MemoryPool,
    format_cpu_list,
    parse_cpu_list,
)
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


text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)
size = st.one_of(st.integers(1, 1 << 60), st.integers(1, 4096).map(lambda n: n * GIB))
cores = st.integers(1, 8192)
maybe = st.none()


@st.composite
def parts(draw: Callable[..., int]) -> tuple[int, int]:
    """A total and a part of it."""
    total = draw(size)
    return total, draw(st.integers(0, total))


@st.composite
def devices(draw: Callable[..., object]) -> tuple[Device, ...]:
    names = draw(st.lists(text, unique=True, max_size=16))
    return tuple(draw(device(name)) for name in names)


@st.composite
def device(draw: Callable[..., object], name: str) -> Device:
    total, free = draw(parts())
    shares = draw(st.booleans())
    return Device(
        id=name,
        backend=draw(st.sampled_from(list(ID_PREFIX))),
        name=draw(text),
        total_bytes=total,
        free_bytes=draw(st.sampled_from([None, free])),
        shares_host_memory=shares,
        carve_out_bytes=draw(st.integers(0, total)) if shares else 0,
        uuid=draw(maybe | text),
        link=draw(
            maybe
            | st.builds(
                Link,
                pcie_generation=maybe | st.integers(1, 7),
                pcie_width=maybe | st.sampled_from([1, 4, 16]),
            )
        ),
        compute_capability=draw(maybe | text),
        driver=draw(maybe | text),
        display=draw(maybe | st.booleans()),
    )


def pool(node: int, memory: tuple[int, int], free: bool, cpus: tuple[int, ...]) -> MemoryPool:
    return MemoryPool(node=node, total_bytes=memory[0], free_bytes=memory[1] if free else None, cpus=cpus)


machines = st.builds(
    lambda ram, **rest: Machine(ram_total_bytes=ram[0], ram_available_bytes=ram[1], **rest),
    ram=parts(),
    os=text,
    arch=text,
    cpu=st.builds(
        Cpu,
        name=maybe | text,
        physical_cores=maybe | cores,
        performance_cores=maybe | cores,
        logical_cores=cores,
        affinity=cores,
        quota=maybe | st.floats(0.001, 8192),
        isa=st.lists(text, max_size=4).map(tuple),
    ),
    ram_limit_bytes=maybe | size,
    nodes=st.lists(
        st.builds(
            pool,
            node=st.integers(0, 1023),
            memory=parts(),
            free=st.booleans(),
            cpus=st.lists(st.integers(0, 8191), max_size=9).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    devices=devices(),
    store=maybe
    | st.builds(
        lambda path, type_, memory: Filesystem(
            path=path, type=type_, total_bytes=memory[0], free_bytes=memory[1]
        ),
        text,
        maybe | text,
        parts(),
    ),
    notes=st.lists(text, max_size=3).map(tuple),
)


@given(machines)
def test_what_is_written_is_read_back(machine: Machine) -> None:
    assert parse_machine(format_machine(machine), "x.toml") == machine


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
    text_ = '[ram]\ntotal=1024\n[[device]]\ngpu="3090"\npcie_width=4\ntotal="20 GiB"\nid="CUDA5"\nfree="unknown"\nname="Mine"'
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


def test_adhoc_machine() -> None:
    machine = adhoc_machine(("3090:2", "RTX 3060"), 128 * GIB)
    assert [(card.id, card.name) for card in machine.devices] == [
        ("CUDA0", "NVIDIA GeForce RTX 3090"),
        ("CUDA1", "NVIDIA GeForce RTX 3090"),
        ("CUDA2", "NVIDIA GeForce RTX 3060"),
    ]
    assert (machine.ram_total_bytes, machine.ram_available_bytes) == (128 * GIB, 124 * GIB)
    assert adhoc_machine((), GIB).devices == ()
    assert parse_machine(format_machine(machine), "adhoc") == machine


def test_adhoc_mac_shares_its_memory() -> None:
    machine = adhoc_machine(("m4-max",), 128 * GIB)
    (gpu,) = machine.devices
    assert (machine.os, machine.arch, gpu.id, gpu.shares_host_memory) == ("darwin", "arm64", "MTL0", True)
    assert gpu.total_bytes == metal_working_set(128 * GIB) == 96 * GIB
    assert metal_working_set(24 * GIB) == 16 * GIB


@pytest.mark.parametrize(
    "spec", ["3090:0", "3090:x", "3090:", "3090:17", "3090:99999999999999999999", ":2", "", "nosuch"]
)
def test_adhoc_errors(spec: str) -> None:
    with pytest.raises(LauncherError) as caught:
        adhoc_machine((spec,), GIB)
    assert caught.value.exit_code in {2, 4}
    assert caught.value.hint


def test_adhoc_limits() -> None:
    with pytest.raises(UsageError, match="18 GPUs are too many"):
        adhoc_machine(("3090:9", "3060:9"), GIB)
    with pytest.raises(UsageError, match="RAM of 0 bytes"):
        adhoc_machine(("3090",), 0)


@pytest.mark.parametrize("name", GPU_NAMES)
def test_every_known_gpu_is_an_idle_device(name: str) -> None:
    gpu = gpu_named(name)
    made = idle_device(gpu, id="X", ram_bytes=128 * GIB)
    assert made.free_bytes is not None
    assert 0.9 * made.total_bytes < made.free_bytes <= made.total_bytes
    assert made.shares_host_memory == (gpu.total_mib is None)
    assert (made.compute_capability is not None) == (made.backend is Backend.CUDA)
    assert gpu_named(gpu.name.partition(" (")[0]).backend is gpu.backend


def test_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        gpu_named("5091")
    assert "5090" in (caught.value.hint or "")


@given(st.lists(st.integers(0, 8191)).map(tuple))
def test_cpu_lists(cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == cpus


@pytest.mark.parametrize("text", ["x", "1-", "-1", "3-1", "1,,2", "0-8192", "1 2", "\u0661"])
def test_cpu_list_garbage(text: str) -> None:
    assert parse_cpu_list(text) is None


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
