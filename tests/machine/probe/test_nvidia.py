from dataclasses import replace

import pytest

from launcher.machine.machine import Link, pinned_order
from launcher.machine.probe.nvidia import MigInstance, NvidiaGpu, NvidiaReading, cuda_devices
from launcher.units import GIB, MIB
from tests.machine.probe.records import A100_MIG, EIGHT_H100, RTX_3060, RTX_3090, RTX_5090

RAM = (128 * GIB, 100 * GIB)


def ids(reading: NvidiaReading, **variables: str) -> list[str | None]:
    devices, _ = cuda_devices(reading, variables, *RAM)
    assert [device.id for device in devices] == [f"CUDA{number}" for number in range(len(devices))]
    return [device.uuid for device in devices]


def test_no_driver_is_no_device_and_no_note() -> None:
    assert cuda_devices(NvidiaReading(), {}, *RAM) == ((), ())
    assert cuda_devices(NvidiaReading(), {"CUDA_VISIBLE_DEVICES": "0"}, *RAM) == ((), ())


def test_eight_alike_gpus_come_in_bus_order() -> None:
    devices, notes = cuda_devices(EIGHT_H100, {}, *RAM)
    assert [device.uuid for device in devices] == [gpu.uuid for gpu in EIGHT_H100.gpus]
    assert notes == ()
    first = devices[0]
    assert (first.name, first.total_bytes, first.free_bytes) == (
        "NVIDIA H100 80GB HBM3",
        81559 * MIB,
        81081 * MIB,
    )
    assert (first.link, first.compute_capability, first.driver) == (
        Link(pcie_generation=5, pcie_width=16),
        "9.0",
        "580.95.05",
    )
    assert first.display is False
    assert not first.shares_host_memory


MIXED = NvidiaReading(driver="580.95.05", gpus=(RTX_3060, RTX_3090, RTX_5090))


def test_unlike_gpus_are_ordered_by_a_guess_that_is_noted() -> None:
    devices, notes = cuda_devices(MIXED, {}, *RAM)
    assert [device.name.split()[-1] for device in devices] == ["5090", "3090", "3060"]
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in notes[0]


def test_bus_order_is_certain() -> None:
    devices, notes = cuda_devices(MIXED, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, *RAM)
    assert [device.name.split()[-1] for device in devices] == ["3060", "3090", "5090"]
    assert notes == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        ("3,1", [3, 1]),
        (" 2 , 5", [2, 5]),
        ("1,-1,2", [1]),
        ("1,9,2", [1]),
        ("1,,2", [1]),
        ("2gpu", [2]),
        ("+1", [1]),
        ("0,0", []),
        ("GPU-00000003-aaaa,GPU-00000001", [3, 1]),
        ("GPU-00000003,1", [3]),
        ("gpu-00000003", []),
        ("GPU-0000000", []),  # matches all eight
        ("GPU-ffff", []),
        ("MIG-00000003", []),
    ],
)
def test_cuda_visible_devices(value: str, expected: list[int]) -> None:
    assert ids(EIGHT_H100, CUDA_VISIBLE_DEVICES=value) == [EIGHT_H100.gpus[index].uuid for index in expected]


def test_hidden_gpus_are_noted() -> None:
    _, notes = cuda_devices(EIGHT_H100, {"CUDA_VISIBLE_DEVICES": "0,1"}, *RAM)
    assert notes == ("CUDA_VISIBLE_DEVICES=0,1 shows 2 of 8 NVIDIA GPUs",)
    _, notes = cuda_devices(EIGHT_H100, {"CUDA_VISIBLE_DEVICES": "0,0"}, *RAM)
    assert notes == ("CUDA_VISIBLE_DEVICES=0,0 names a GPU twice: CUDA shows none",)
    _, notes = cuda_devices(MIXED, {"CUDA_VISIBLE_DEVICES": f"{RTX_3090.uuid},{RTX_3060.uuid}"}, *RAM)
    assert notes == (f"CUDA_VISIBLE_DEVICES={RTX_3090.uuid},{RTX_3060.uuid} shows 2 of 3 NVIDIA GPUs",)
    _, notes = cuda_devices(MIXED, {"CUDA_VISIBLE_DEVICES": "1"}, *RAM)
    assert "a guess" in notes[1]


def test_mig_shows_the_first_instance_alone() -> None:
    devices, notes = cuda_devices(A100_MIG, {}, *RAM)
    first = A100_MIG.gpus[0].mig[0]
    assert [(device.uuid, device.total_bytes) for device in devices] == [(first.uuid, first.total_bytes)]
    assert devices[0].name == "NVIDIA A100-SXM4-80GB MIG 3g.40gb"
    assert "one MIG instance" in notes[0]
    assert ids(A100_MIG, CUDA_VISIBLE_DEVICES="0") == [first.uuid]


def test_mig_instance_by_uuid() -> None:
    second = A100_MIG.gpus[0].mig[1]
    assert ids(A100_MIG, CUDA_VISIBLE_DEVICES=second.uuid) == [second.uuid]
    assert ids(A100_MIG, CUDA_VISIBLE_DEVICES=second.uuid[:10]) == [second.uuid]
    both = ",".join(mig.uuid for mig in A100_MIG.gpus[0].mig)
    assert ids(A100_MIG, CUDA_VISIBLE_DEVICES=both) == [A100_MIG.gpus[0].mig[0].uuid]
    assert ids(A100_MIG, CUDA_VISIBLE_DEVICES="MIG-") == []


def test_mig_mode_without_instances_is_no_device() -> None:
    empty = replace(A100_MIG, gpus=(replace(A100_MIG.gpus[0], mig=()),))
    devices, notes = cuda_devices(empty, {}, *RAM)
    assert devices == ()
    assert "MIG mode without an instance" in notes[0]
    assert cuda_devices(empty, {"CUDA_VISIBLE_DEVICES": "0"}, *RAM)[0] == ()


def test_one_mig_instance_needs_no_note() -> None:
    gpu = replace(A100_MIG.gpus[0], mig=A100_MIG.gpus[0].mig[:1])
    assert cuda_devices(replace(A100_MIG, gpus=(gpu,)), {}, *RAM)[1] == ()


SPARK = NvidiaGpu(
    uuid="GPU-1",
    name="NVIDIA GB10",
    bus_id=None,
    total_bytes=None,
    reserved_bytes=None,
    free_bytes=None,
    pcie_generation=None,
    pcie_width=None,
    compute_capability="12.1",
    display=None,
)


# NVML does not answer, or answers with MemTotal and MemFree; the last is a chip of another name
@pytest.mark.parametrize(
    "spark",
    [
        SPARK,
        replace(SPARK, total_bytes=RAM[0], free_bytes=RAM[1] // 3),
        replace(SPARK, total_bytes=RAM[0], free_bytes=RAM[1] // 3, compute_capability=None),
        replace(SPARK, total_bytes=RAM[0] * 98 // 100, free_bytes=1, name="new", compute_capability="13.1"),
    ],
)
def test_a_gpu_that_shares_the_hosts_memory(spark: NvidiaGpu) -> None:
    (device,), _ = cuda_devices(NvidiaReading(gpus=(spark,)), {}, *RAM)
    assert (device.total_bytes, device.free_bytes, device.shares_host_memory, device.link) == (
        *RAM,
        True,
        None,
    )


def test_notes_of_the_reading_are_kept() -> None:
    assert cuda_devices(NvidiaReading(notes=("reboot",)), {}, *RAM) == ((), ("reboot",))


def test_pinned_order_names_all_cards_or_none() -> None:
    devices, _ = cuda_devices(MIXED, {}, *RAM)
    order = f"{RTX_5090.uuid},{RTX_3090.uuid},{RTX_3060.uuid}"
    assert pinned_order(devices) == (("CUDA_VISIBLE_DEVICES", order),)
    assert pinned_order((devices[0], replace(devices[1], uuid=None))) == ()
    assert pinned_order(()) == ()
    assert ids(MIXED, CUDA_VISIBLE_DEVICES=order) == [device.uuid for device in devices]


def test_mig_beside_whole_gpus() -> None:
    instance = MigInstance(uuid="MIG-1", name=None, total_bytes=GIB, free_bytes=None)
    reading = NvidiaReading(gpus=(RTX_3090, replace(A100_MIG.gpus[0], mig=(instance,))))
    devices, notes = cuda_devices(reading, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, *RAM)
    assert [(device.uuid, device.name) for device in devices] == [("MIG-1", "NVIDIA A100-SXM4-80GB")]
    assert "of 1 instances and 1 whole GPUs" in notes[0]
