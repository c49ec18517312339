"""How long a person waits for help, a version and a tab, as multiples of `import typer`."""

import os
import statistics
import subprocess
import sys
import time

COMPLETE = {"_LAUNCHER_COMPLETE": "complete_bash", "COMP_WORDS": "launcher up smol", "COMP_CWORD": "2"}
WAITS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "import typer": (("-c", "import typer"), {}),
    "launcher --help": (("-m", "launcher", "--help"), {}),
    "launcher --version": (("-m", "launcher", "--version"), {}),
    "launcher up --help": (("-m", "launcher", "up", "--help"), {}),
    "launcher up smol<Tab>": (("-m", "launcher"), COMPLETE),
    "launcher recommend": (("-m", "launcher", "recommend"), {}),
}


def main(arguments: list[str]) -> int:
    """Run each so many times, by turns, and print the medians."""
    rounds = int(arguments[0]) if arguments else 15
    seconds: dict[str, list[float]] = {name: [] for name in WAITS}
    for _ in range(rounds):
        for name, (words, variables) in WAITS.items():
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, *words], env={**os.environ, **variables}, capture_output=True, check=False
            )
            seconds[name].append(time.perf_counter() - begun)
    base = statistics.median(seconds["import typer"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:24}{median:8.3f} s  {median / base:6.2f} x")
    return 0
