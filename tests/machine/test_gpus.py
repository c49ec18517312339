import pytest

from launcher.errors import NotFound
from launcher.machine.gpus import GPU_NAMES, gpu_named, gpu_of, idle_device
from launcher.machine.machine import Backend
from launcher.units import GIB


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


def test_an_unknown_card_can_be_described_in_a_file() -> None:
    with pytest.raises(NotFound) as caught:
        gpu_named("voodoo2")
    assert "--machine" in (caught.value.hint or "")
    assert '[[device]] with backend = "cuda"' in (caught.value.hint or "")


# As people write them in a list of what they have.
DESCRIBED = [
    ("RTX 5090 32GB", "5090"),
    ("RTX 3090 FE 24GB", "3090"),
    ("RTX 3090 Ti 24GB", "3090ti"),
    ("RTX PRO 6000 Blackwell 96GB", "pro6000"),
    ("RTX A6000 48GB", "a6000"),
    ("RTX 4080 SUPER 16GB", "4080super"),
    ("RTX 5060 Ti 16GB", "5060ti-16g"),
    ("RX 7900 XT 20GB", "7900xt"),
    ("AMD Radeon Pro V620 32GB", "v620"),
    ("Apple M2 Ultra 76-core GPU", "m2-ultra"),
    ("Apple M3 Ultra 80-core GPU 512GB", "m3-ultra"),
    ("Apple M4 Max 32-core GPU", "m4-max-32c"),
    ("RTX 4090 48GB", "4090-48g"),
]


@pytest.mark.parametrize(("name", "key"), DESCRIBED)
def test_a_card_is_known_with_its_memory_and_edition(name: str, key: str) -> None:
    assert gpu_named(name).key == key


@pytest.mark.parametrize("name", ["RTX 3090 48GB", "RTX 5090 16GB", "24GB", "FE", "80-core GPU"])
def test_a_description_alone_or_of_another_card_names_none(name: str) -> None:
    with pytest.raises(NotFound):
        gpu_named(name)


# Names as NVML, RADV, ROCm, SYCL and Metal report them, with the memory that the driver reports (GiB).
REPORTED = [
    ("Radeon 8060S Graphics (RADV GFX1151)", 96, "strix-halo"),
    ("AMD Radeon Graphics (RADV GFX1151)", 64, "strix-halo"),
    ("AMD Radeon 8060S Graphics (RADV STRIX_HALO)", 96, "strix-halo"),
    ("NVIDIA GB10", 120, "gb10"),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, "4090-laptop"),
    ("NVIDIA GeForce RTX 4090", 24, "4090"),
    ("NVIDIA GeForce RTX 4090", 48, "4090-48g"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 96, "pro6000-max-q"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, "pro6000-server"),
    ("NVIDIA GeForce RTX 3080", 10, "3080"),
    ("NVIDIA GeForce RTX 3080", 12, "3080-12g"),
    ("NVIDIA GeForce RTX 5060 Ti", 16, "5060ti-16g"),
    ("NVIDIA H100 80GB HBM3", 80, "h100"),
    ("NVIDIA A100-SXM4-80GB", 80, "a100-80g"),
    ("NVIDIA A100 80GB PCIe", 80, "a100-pcie-80g"),
    ("Tesla V100-PCIE-16GB", 16, "v100"),
    ("Tesla P40", 24, "p40"),
    ("Quadro P6000", 24, "p6000"),
    ("Quadro RTX 6000", 24, "rtx6000"),
    ("NVIDIA RTX 6000 Ada Generation", 48, "6000ada"),
    ("NVIDIA RTX A4000", 16, "a4000"),
    ("AMD Instinct MI50/MI60 (RADV VEGA20)", 32, "mi50-32g"),
    ("AMD Radeon RX 9070 XT (RADV GFX1201)", 16, "9070xt"),
    ("AMD Radeon PRO W7800 48GB (RADV NAVI31)", 48, "w7800-48g"),
    ("AMD Radeon PRO W7800 (RADV NAVI31)", 32, "w7800"),
    ("NVIDIA RTX PRO 4000 Blackwell SFF Edition", 24, "pro4000-sff"),
    ("NVIDIA GB300", 269, "b300"),
    ("NVIDIA Jetson AGX Orin", 64, "orin"),
    ("NVIDIA Jetson AGX Thor", 128, "thor"),
    ("Intel(R) Graphics (LNL)", 16, "arc-140v"),
    ("AMD Radeon RX 9060 XT", 16, "9060xt-16g"),
    ("AMD Radeon AI PRO R9700", 32, "r9700"),
    ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 24, "7900xtx"),
    ("Intel(R) Arc(tm) A770 Graphics (DG2)", 16, "a770"),
    ("Intel(R) Arc(TM) B580 Graphics", 12, "b580"),
    ("Apple M4 Max", 27, "m4-max-32c"),
    ("Apple M4 Max", 36, "m4-max"),
    ("Apple M4 Max", 96, "m4-max"),
    ("Apple M3 Max", 72, "m3-max-30c"),
    ("Apple M3 Max", 96, "m3-max"),
]


@pytest.mark.parametrize(("name", "gib", "key"), REPORTED)
def test_cards_are_known_by_what_drivers_report(name: str, gib: int, key: str) -> None:
    gpu = gpu_of(name, gib * GIB)
    assert gpu is not None
    assert gpu.key == key


@pytest.mark.parametrize(
    "name", ["AMD Radeon Graphics", "Intel(R) Graphics (RPL-P)", "llvmpipe (LLVM 15.0.6)", ""]
)
def test_a_name_that_many_parts_have_is_not_a_card(name: str) -> None:
    assert gpu_of(name, 16 * GIB) is None


def test_the_table_holds_what_llama_cpp_runs_on() -> None:
    assert len(GPU_NAMES) >= 120
    for name in ("b200", "v100", "p40", "p6000", "mi50", "2080ti", "a4000", "a5000", "l20", "l40", "pro4500"):
        assert gpu_named(name).gb_s > 100


def test_a_short_name_is_that_card_and_a_driver_s_name_any_of_them() -> None:
    assert gpu_named("3080").total_mib == 10240
    assert gpu_named("3080-12g").total_mib == 12288
    assert gpu_named("9060xt-8g").key == "9060xt"
