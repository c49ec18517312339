"""From `launcher up` with everything cached to the first token, against the same llama-server started by hand.

scripts/bench up [REF] [ROUNDS]; the two are run in turns, so that a busy machine slows both.
"""

import json
import statistics
import subprocess
import sys
import time

from scripts.processes import first_token_s


def main(arguments: list[str]) -> int:
    ref = arguments[0] if arguments else "smollm2-135m"
    rounds = int(arguments[1]) if len(arguments) > 1 else 5
    deployment = up(ref)  # the first one warms every cache
    stop()
    by_hand, launched = [], []
    for _ in range(rounds):
        by_hand.append(first_token_s(deployment["argv"], deployment["url"]))
        began = time.monotonic()
        up(ref)
        launched.append(time.monotonic() - began)
        stop()
    hand, ours = statistics.median(by_hand), statistics.median(launched)
    print(f"{ref}: command to first token, median of {rounds}, interleaved")
    print(f"  llama-server by hand  {hand:6.2f} s   {spread(by_hand)}")
    print(f"  launcher up           {ours:6.2f} s   {spread(launched)}")
    print(
        f"  added                 {ours - hand:+6.2f} s   ratio {ours / hand:.2f}   (target: at most +1.0 s)"
    )
    return 0


def spread(seconds: list[float]) -> str:
    return f"({min(seconds):.2f} to {max(seconds):.2f})"


def launcher(*words: str) -> str:
    command = [sys.executable, "-P", "-m", "launcher", *words]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


def up(ref: str) -> dict:
    return json.loads(launcher("up", ref, "--name", "bench-up", "--json"))


def stop() -> None:
    launcher("stop", "bench-up")
