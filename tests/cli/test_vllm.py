"""`--engine vllm`: what is planned for vLLM, as it is typed."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.shell import launcher

H200 = ("plan", "kimi-k2.5", "--machine", "8xh200-141g")


def planned(*words: str, code: int = 0) -> Any:
    done = launcher(*words, "--offline", "--json", timeout_s=120)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_plan_for_llama_cpp_names_vllm_beside_it() -> None:
    shown = launcher(*H200, "--offline", timeout_s=120)
    assert "vLLM with the native INT4, 745-807 k tokens of cache: --engine vllm" in shown.stdout
    document = planned(*H200)
    assert document["fits"] is True
    assert document["vllm"]["fits"] is True
    assert document["vllm"]["rank"]["runtime_bytes"] == [4 << 30, 8 << 30]


def test_it_is_planned_as_such_with_its_command_line() -> None:
    shown = launcher(*H200, "--engine", "vllm", "--offline", timeout_s=120)
    assert shown.returncode == 0, shown.stderr
    words = shown.stdout.replace("\\\n", " ").split()
    line = words[words.index("vllm", words.index("VLLM_API_KEY,")) :]
    assert line[:5] == ["vllm", "serve", "moonshotai/Kimi-K2.5", "--tensor-parallel-size", "8"]
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert line[line.index("--mm-encoder-tp-mode") + 1] == "data"
    assert {"--tool-call-parser", "--reasoning-parser", "--trust-remote-code"} <= set(line)


def test_four_h200_are_refused_with_what_is_missing_and_what_would_do() -> None:
    document = planned("plan", "kimi-k2.5", "--gpu", "h200:4", "--ram", "1T", "--engine", "vllm", code=3)
    assert document["fits"] is False
    assert document["would_do"] == "8 x NVIDIA H200 (-tp 8)"
    assert [round(size / (1 << 30), 1) for size in document["rank"]["missing_bytes"]] == [16.7, 20.7]
    assert document["argv"] == []
    shown = launcher(
        "plan", "kimi-k2.5", "--gpu", "h200:4", "--ram", "1T", "--engine", "vllm", "--offline", timeout_s=120
    )
    [cache] = [line for line in shown.stdout.splitlines() if line.startswith(" cache")]
    assert cache.split() == ["cache", "none"]
