"""What -e gives survives; what a shell happens to hold does not reach a server, and no file keeps a secret."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.serving import ServeOptions
from launcher.cli.requests import up_request
from launcher.commands.export.running import export
from launcher.commands.restart import restart
from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.install.export import Format
from launcher.deployment.record import Deployment
from launcher.deployment.records import save_record
from launcher.engine.environment import engine_env, is_secret
from launcher.errors import UsageError
from launcher.progress import silent
from launcher.system.settings import read_settings
from tests.conftest import end_everything
from tests.serving import a_request, fake_command, record_of, stub_model, until

TYPED = {"CUDA_VISIBLE_DEVICES": "1", "FOO": "a $b", "HF_TOKEN": "S9"}


@pytest.fixture
def deployments() -> Iterator[Path]:
    folder = read_settings().deployments_dir
    folder.mkdir(parents=True)
    yield folder
    end_everything(folder)


def brought_up(folder: Path, tmp_path: Path, typed: dict[str, str]) -> Deployment:
    env, dropped = engine_env(os.environ, typed)
    kept = {name: value for name, value in typed.items() if not is_secret(name, value)}
    request = a_request("m", fake_command(), stub_model(tmp_path), env=kept)
    return bring_up(folder, replace(request, env=env, env_dropped=dropped))


def environment_of(deployment: Deployment) -> dict[str, str]:
    return dict(psutil.Process(deployment.pid).environ())


def test_no_secret_of_the_shell_reaches_server_or_supervisor(
    deployments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "S1")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:S2@127.0.0.1:1")
    deployment = brought_up(deployments, tmp_path, {})
    assert deployment.supervisor is not None
    for pid in (deployment.pid, deployment.supervisor.pid):
        assert not {"HF_TOKEN", "HTTPS_PROXY"} & psutil.Process(pid).environ().keys()
    assert {"HF_TOKEN", "HTTPS_PROXY"} <= set(deployment.env_dropped)


def test_what_was_given_survives_the_supervisor(
    deployments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = brought_up(deployments, tmp_path, TYPED)
    assert TYPED.items() <= environment_of(deployment).items()
    assert TYPED.items() <= environment_of(restart("m", silent)).items()
    record = record_of(deployments)
    assert record.supervisor is not None
    os.kill(record.supervisor.pid, signal.SIGKILL)
    until(lambda: not lives(record.pid or 0))
    with pytest.raises(UsageError, match="m was given HF_TOKEN with -e: that looks like a secret") as caught:
        restart("m", silent)
    assert caught.value.hint == "HF_TOKEN=… launcher restart m"
    monkeypatch.setenv("HF_TOKEN", "S9")
    assert TYPED.items() <= environment_of(restart("m", silent)).items()
    assert "S9" not in (deployments / "m.json").read_text()


def test_what_was_given_is_exported_but_for_secrets(deployments: Path, tmp_path: Path) -> None:
    brought_up(deployments, tmp_path, TYPED)
    texts = {format_: export("m", format_) for format_ in Format}
    assert all("CUDA_VISIBLE_DEVICES" in text and "S9" not in text for text in texts.values())
    assert "PassEnvironment=HF_TOKEN" in texts[Format.SYSTEMD]
    assert 'Environment="FOO=a $$b"' in texts[Format.SYSTEMD]
    assert ': "${HF_TOKEN:?was given with -e}"' in texts[Format.SHELL]
    assert 'HF_TOKEN: "${HF_TOKEN:?was given with -e}"' in texts[Format.COMPOSE]
    assert 'FOO: "a $$b"' in texts[Format.COMPOSE]
    assert "secretKeyRef" in texts[Format.KUBERNETES]


@pytest.mark.parametrize("env", [{"A;B": "x"}, {"A": "x\0y"}, {"A": 5}, []])
def test_variables_of_a_record_are_variables(deployments: Path, tmp_path: Path, env: object) -> None:
    record = brought_up(deployments, tmp_path, {})
    save_record(deployments, replace(record, options=replace(record.options, env=env)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="options"):
        export("m", Format.SHELL)


@pytest.mark.parametrize("flag", ["--hf-token", "-hft", "--hf_token"])
def test_a_token_goes_by_environment(flag: str) -> None:
    flags = ("-ub", "64", flag, "S8", "--jinja")
    request = up_request("m", PlanOptions(), ServeOptions(), EngineOptions(), flags)
    assert request.plan.flags == ("-ub", "64", "--jinja")
    assert request.env == (("HF_TOKEN", "S8"),)
