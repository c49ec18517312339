"""A real llama-server that is stopped in the middle of an answer: nobody waits for it for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from launcher.engine.find import Engine
from launcher.gateway.silence import SilenceLimits
from tests.gateway.served import Kind, serving
from tests.serving import SMALL

pytestmark = pytest.mark.engine

HI: Any = [{"role": "user", "content": "Hi"}]
QUICK = SilenceLimits(look_s=0.5, quiet_s=1.0, dead_s=5.0)


def test_an_engine_that_is_stopped_is_ended_and_started_again(
    engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    kind = Kind(command=(str(engine.path), "-m", str(default_model), *SMALL))
    with serving(tmp_path, {"a": kind}, silence=QUICK) as gateway:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
            stream = client.chat.completions.create(model="a", messages=HI, max_tokens=300, stream=True)
            next(stream)
            psutil.Process(gateway.deployments.processes["a"][0].pid).suspend()
            with pytest.raises(
                openai.APIError, match="a is frozen: llama-server gave no sign of life for 5 s"
            ):
                list(stream)
            answer = client.chat.completions.create(model="a", messages=HI, max_tokens=1)
            assert answer.choices[0].finish_reason == "length"
        assert gateway.deployments.starts == ["a", "a"]
