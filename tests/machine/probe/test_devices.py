from dataclasses import replace
from pathlib import Path

from launcher.machine.machine import Backend
from launcher.machine.probe.amd import amd_devices, read_cards
from launcher.machine.probe.device_list import parse_device_list
from launcher.machine.probe.devices import DriverReport, choose_devices
from launcher.machine.probe.nvidia import NvidiaReading, cuda_devices
from launcher.machine.shared_memory import Charge, charge_of
from launcher.units import GIB, MIB
from tests.machine.probe.records import EIGHT_H100, RTX_3060, RTX_3090, listed
from tests.machine.probe.trees import capture, plant

RAM = (128 * GIB, 100 * GIB)


def seen_by_nvml(reading: NvidiaReading, **variables: str) -> DriverReport:
    devices, notes = cuda_devices(reading, variables, *RAM)
    return DriverReport(devices=devices, all_nvidia=cuda_devices(reading, {}, *RAM)[0], notes=notes)


def test_eight_gpus_get_nvmls_knowledge() -> None:
    seen = seen_by_nvml(EIGHT_H100)
    devices, notes = choose_devices(seen, parse_device_list(capture("list_devices_8xh100.txt")))
    assert notes == ()
    assert devices == seen.devices
    assert len({device.uuid for device in devices}) == 8


def test_the_engines_order_wins_over_the_guess() -> None:
    seen = seen_by_nvml(NvidiaReading(gpus=(RTX_3060, RTX_3090)))
    assert [device.name.split()[-1] for device in seen.devices] == ["3090", "3060"]
    devices, _ = choose_devices(
        seen,
        listed(
            "CUDA0: NVIDIA GeForce RTX 3060 (11909 MiB, 11600 MiB free)",
            "CUDA1: NVIDIA GeForce RTX 3090 (24121 MiB, 23800 MiB free)",
        ),
    )
    assert [(device.id, device.uuid) for device in devices] == [
        ("CUDA0", RTX_3060.uuid),
        ("CUDA1", RTX_3090.uuid),
    ]
    assert devices[0].free_bytes == 11909 * MIB  # NVML's, before CUDA's own context
    assert devices[0].link is not None
    assert devices[0].link.pcie_width == 4


def test_a_doubtful_match_is_noted_and_keeps_the_engines_memory() -> None:
    devices, notes = choose_devices(
        seen_by_nvml(NvidiaReading(gpus=(RTX_3090,))),
        listed("CUDA0: NVIDIA GeForce RTX 3090 (24121 MiB, 2000 MiB free)"),
    )
    assert devices[0].free_bytes == 2000 * MIB
    assert "may be another card's" in notes[0]


def test_an_unmatched_device_stays_as_listed() -> None:
    lines = listed("CUDA0: NVIDIA GeForce RTX 3090 (12060 MiB, 12000 MiB free)")
    assert choose_devices(seen_by_nvml(NvidiaReading(gpus=(RTX_3090,))), lines) == (lines, ())


def test_vulkan_shows_what_cuda_visible_devices_hides() -> None:
    seen = seen_by_nvml(NvidiaReading(gpus=(RTX_3090,)), CUDA_VISIBLE_DEVICES="")
    (device,), _ = choose_devices(
        seen, listed("Vulkan0: NVIDIA GeForce RTX 3090 (24822 MiB, 24000 MiB free)")
    )
    assert (device.uuid, device.total_bytes, device.free_bytes) == (RTX_3090.uuid, 24822 * MIB, 24000 * MIB)


def test_a_card_two_backends_show_counts_once() -> None:
    devices, notes = choose_devices(
        seen_by_nvml(NvidiaReading(gpus=(RTX_3090,))),
        listed(
            "CUDA0: NVIDIA GeForce RTX 3090 (24121 MiB, 23800 MiB free)",
            "Vulkan0: NVIDIA GeForce RTX 3090 (24822 MiB, 24000 MiB free)",
            "Vulkan1: Intel(R) UHD Graphics 770 (RPL-S) (60000 MiB, 60000 MiB free)",
        ),
    )
    assert [device.id for device in devices] == ["CUDA0"]
    assert "Vulkan0" in notes[0]
    assert "same card" in notes[0]
    assert "Vulkan1" in notes[1]


def test_two_software_gpus_stay_two_and_are_noted() -> None:
    devices, notes = choose_devices(DriverReport(), parse_device_list(capture("list_devices_lavapipe.txt")))
    assert [device.id for device in devices] == ["Vulkan0", "Vulkan1"]
    assert all("software GPU" in note for note in notes)


def test_strix_halo_under_two_backends(tmp_path: Path) -> None:
    cards = read_cards(plant(tmp_path, "amd_strix_halo.txt"))
    (device,), notes = choose_devices(
        DriverReport(cards=cards), parse_device_list(capture("list_devices_strix_halo.txt"))
    )
    assert (device.id, device.backend, device.shares_host_memory) == ("ROCm0", Backend.HIP, True)
    assert (device.total_bytes, device.carve_out_bytes) == (122880 * MIB, 512 * MIB)
    assert notes == ()


def test_card_and_apu_are_told_apart_by_memory(tmp_path: Path) -> None:
    cards = read_cards(plant(tmp_path, "amd_7900xtx_and_raphael.txt"))
    devices, notes = choose_devices(
        DriverReport(cards=cards),
        listed(
            "Vulkan0: AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO) (31989 MiB, 31000 MiB free)",
            "Vulkan1: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 23000 MiB free)",
        ),
    )
    assert [(device.id, device.uuid) for device in devices] == [("Vulkan1", "GPU-1a2b3c4d5e6f7081")]
    assert "shares the host's memory" in notes[0]


def test_an_engine_without_the_backend_is_noted() -> None:
    devices, notes = choose_devices(seen_by_nvml(EIGHT_H100), ())
    assert devices == ()
    assert "the engine lists no device, but the machine has NVIDIA H100" in notes[0]


def test_without_an_engine_one_backend_is_planned(tmp_path: Path) -> None:
    amd, _ = amd_devices(read_cards(plant(tmp_path, "amd_7900xtx_and_raphael.txt")), Backend.HIP, 16 * GIB)
    seen = seen_by_nvml(NvidiaReading(gpus=(RTX_3060,)))
    devices, notes = choose_devices(replace(seen, devices=seen.devices + amd), None)
    assert [device.id for device in devices] == ["ROCm0"]
    assert "an engine for hip does not use NVIDIA GeForce RTX 3060" in notes[0]


def test_more_devices_than_llama_takes() -> None:
    lines = listed(*(f"Vulkan{number}: llvmpipe (1 MiB, 1 MiB free)" for number in range(20)))
    devices, notes = choose_devices(DriverReport(), lines)
    assert len(devices) == 16
    assert notes[-1] == "llama.cpp takes 16 devices: 4 are left out"


def test_a_gpu_that_reports_all_of_the_hosts_memory_is_one_pool_with_it() -> None:
    lines = listed("Vulkan0: a new chip (124610 MiB, 118425 MiB free)")
    (device,), notes = choose_devices(DriverReport(), lines, 124610 * MIB)
    assert device.shares_host_memory
    assert "one pool" in notes[0]
    lines = listed("Vulkan0: a new chip (24576 MiB, 23425 MiB free)")
    (device,), notes = choose_devices(DriverReport(), lines, 124610 * MIB)
    assert (device.shares_host_memory, notes) == (False, ())


def test_intels_driver_says_whose_memory_the_gpu_takes() -> None:
    lines = listed("Vulkan0: Intel(R) Graphics (LNL) (16000 MiB, 15000 MiB free)")
    for driver, charge in (("xe", Charge.HOST), ("i915", Charge.CGROUP), (None, Charge.CGROUP)):
        (device,), _ = choose_devices(DriverReport(intel_driver=driver), lines)
        assert device.kernel_driver == driver
        assert charge_of(device) is charge


def test_an_amd_gpu_of_which_sysfs_tells_nothing_is_counted_in_the_hosts_memory() -> None:
    """An APU is called like that by ROCm; as a card of its own its 96 GiB would be counted besides the RAM."""
    lines = listed("ROCm0: AMD Radeon Graphics (98304 MiB, 98000 MiB free)")
    (device,), (note,) = choose_devices(DriverReport(), lines, 128 * GIB)
    assert device.shares_host_memory
    assert "do not tell whether it has memory of its own" in note
    assert note.endswith("if it is its own, there are up to 96.0 GiB more")


def test_a_card_by_its_name_needs_no_sysfs() -> None:
    lines = listed("ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24000 MiB free)")
    (device,), notes = choose_devices(DriverReport(), lines, 128 * GIB)
    assert (device.shares_host_memory, notes) == (False, ())


def test_sysfs_knows_a_card_of_a_plain_name(tmp_path: Path) -> None:
    cards = read_cards(plant(tmp_path, "amd_7900xtx_and_raphael.txt"))
    lines = listed("ROCm0: AMD Radeon Graphics (24560 MiB, 24000 MiB free)")
    (device,), _ = choose_devices(DriverReport(cards=cards), lines, 128 * GIB)
    assert not device.shares_host_memory
