"""An engine whose software GPUs have a memory of their own: a stated one, less what its servers took by their logs.

Mesa's software GPU says that it has 2 GiB, whatever is used, and lies in RAM. This engine's folder is a built one's but
for a llama-server that lists other devices; all else it does is done by the built one.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from launcher.engine.find import Engine
from tests.real.gateway_process import allocated_bytes, logs_of_running

DEVICES = ("Vulkan0", "Vulkan1")
VISIBLE = {"GGML_VK_VISIBLE_DEVICES": "0,0"}  # the one software GPU, twice

_SERVER = """\
#!/bin/sh
case " $* " in
*" --list-devices "*) exec {python} -m tests.real.gpus_with_budget {budget} ;;
esac
exec {server} "$@"
"""


def make_engine(engine: Engine, folder: Path, budget_mib: int) -> Engine:
    """Make such an engine in the folder, with so much memory on each device; return it."""
    folder.mkdir()
    for path in engine.folder.iterdir():
        if path.name not in {"llama-server", "engine.json"}:
            (folder / path.name).symlink_to(path)
    server = folder / "llama-server"
    server.write_text(_SERVER.format(python=sys.executable, budget=budget_mib, server=engine.path))
    server.chmod(0o755)
    return replace(engine, path=server, folder=folder)


def main(budget_mib: int) -> None:
    print("Available devices:")
    logs = logs_of_running()
    for device in DEVICES:
        taken = sum(allocated_bytes(log, device) for log in logs) >> 20
        print(f"  {device}: Radeon RX 580 ({budget_mib} MiB, {max(0, budget_mib - taken)} MiB free)")


if __name__ == "__main__":
    main(int(sys.argv[1]))
