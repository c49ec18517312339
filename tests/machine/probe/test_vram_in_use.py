import json
import os
import subprocess
import sys
from pathlib import Path

from launcher.machine.probe.vram_in_use import DriverVramReader
from launcher.units import MIB
from tests.machine.probe.trees import plant

CARD = "/sys/class/drm/card0/device"


def test_memory_in_use_of_an_amd_card(tmp_path: Path) -> None:
    files = plant(tmp_path, "amd_7900xtx_and_raphael.txt")
    reader = DriverVramReader({"ROCm0": "GPU-1a2b3c4d5e6f7081"}, files)
    assert reader.read() == {"ROCm0": 1024 * MIB}
    files.at(f"{CARD}/mem_info_vram_used").write_text(str(9000 * MIB))
    assert reader.read() == {"ROCm0": 9000 * MIB}
    reader.close()


SHOW = (
    "import json, sys; from launcher.machine.probe.vram_in_use import DriverVramReader;"
    "reader = DriverVramReader(json.loads(sys.argv[1])); print(json.dumps(reader.read()));"
    "reader.close(); reader.close()"
)


def test_memory_in_use_as_nvml_says_it(library: Path, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.write_text("1000")
    names = {"CUDA0": "GPU-1", "CUDA1": "GPU-2", "CUDA2": "MIG-11", "CUDA3": "nonsense"}
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(library),
        "FAKE_NVML": "two",
        "FAKE_NVML_USED": str(used),
    }

    def in_use(**more: str) -> object:
        argv = [sys.executable, "-c", SHOW, json.dumps(names)]
        done = subprocess.run(argv, env=environment | more, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    assert in_use() == {"CUDA0": 1021 * MIB, "CUDA2": 1021 * MIB}  # a GPU in the host's memory says nothing
    assert in_use(FAKE_NVML="old")["CUDA0"] == 576 * MIB  # type: ignore[index]
    assert in_use(FAKE_NVML="unloaded") == {}
