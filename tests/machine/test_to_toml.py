from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from launcher.machine.from_toml import parse_machine
from launcher.machine.from_words import ID_PREFIX
from launcher.machine.machine import Cpu, Device, Filesystem, Link, Machine, MemoryPool
from launcher.machine.to_toml import format_machine
from launcher.units import GIB

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
    lambda ram, host_available, **rest: Machine(
        ram_total_bytes=ram[0],
        ram_available_bytes=ram[1],
        host_available_bytes=None if host_available is None else min(host_available, ram[0]),
        **rest,
    ),
    ram=parts(),
    host_available=maybe | size,
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
