"""What is exported is read by the real readers: systemd-analyze, kubernetes-validate, compose-spec, sh."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.install.export import (
    Export,
    compose_file,
    kubernetes_manifest,
    shell_script,
    systemd_unit,
)
from launcher.deployment.install.systemd import (
    unit_name,
    verify_unit,
)
from launcher.engine.flags.taskset import taskset_prefix
from launcher.errors import EngineFailed

PLAIN = Export(
    name="kimi-k2.5",
    model_id="kimi 100% $HOME",
    argv=(
        sys.executable,
        "-m",
        "/data/a b/kimi.gguf",
        "--host",
        "127.0.0.1",
        "--port",
        "8123",
        "-ot",
        r"blk\.[0-9]=CPU",
    ),
    model_folder="/data/a b",
    port=8123,
    host_bytes=10 << 30,
    limit_bytes=12 << 30,
)
KEYED = replace(
    PLAIN,
    argv=(*PLAIN.argv, "--api-key-file", "/etc/keys"),
    api_key_file="/etc/keys",
    n_cuda=2,
    env=(("GGML_X", 'say "hi" $5'),),
    ready=(sys.executable, "-c", "pass"),
)


@pytest.mark.parametrize("export", [PLAIN, KEYED], ids=["plain", "keyed"])
def test_systemd_takes_the_unit(tmp_path: Path, export: Export) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    path = tmp_path / unit_name(export.name)
    for system in (False, True):
        path.write_text(systemd_unit(export, system=system))
        assert verify_unit(path, system=system)
    path.write_text(systemd_unit(export).replace("Restart=on-failure", "Restart=sometimes"))
    with pytest.raises(EngineFailed, match="systemd refuses"):
        verify_unit(path, system=False)


def test_the_unit_protects(tmp_path: Path) -> None:
    unit = systemd_unit(KEYED)
    for line in (
        "MemoryMax=12884901888",
        "OOMScoreAdjust=500",
        "LimitCORE=0",
        "UMask=0077",
        "NoNewPrivileges=yes",
    ):
        assert f"\n{line}\n" in unit
    assert "ExecStartPost=" in unit
    assert 'Environment="GGML_X=say \\"hi\\" $$5"' in unit
    assert "kimi 100%% $HOME" in unit


@pytest.mark.parametrize("export", [PLAIN, KEYED], ids=["plain", "keyed"])
def test_kubernetes_takes_the_manifest(export: Export) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    yaml = pytest.importorskip("yaml", reason="kubernetes-validate's PyYAML is not installed")
    deployment, service = yaml.safe_load_all(kubernetes_manifest(export, "llama.cpp:server"))
    for document in (deployment, service):
        validator.validate(document, "1.31", strict=True)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"memory": str(10 << 30)}
    assert container["resources"]["limits"]["memory"] == str(12 << 30)
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (export.n_cuda or None)
    assert "/models/kimi.gguf" in container["args"]
    assert deployment["metadata"]["name"] == "kimi-k2-5"


@pytest.mark.parametrize("export", [PLAIN, KEYED], ids=["plain", "keyed"])
def test_compose_takes_the_file(export: Export) -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    read = compose_spec.PyCompose.from_yaml(compose_file(export, "llama.cpp:server"))
    read.validate()
    assert list(read.service_names()) == ["kimi-k2-5"]
    assert '"127.0.0.1:8123:8123"' in compose_file(export, "llama.cpp:server")


def test_the_script_becomes_the_server(tmp_path: Path) -> None:
    show = "import sys, os; print(sys.argv[1:], os.environ['GGML_X'])"
    script = tmp_path / "serve.sh"
    script.write_text(shell_script(replace(KEYED, argv=(sys.executable, "-c", show, "a b", "$HOME", "it's"))))
    done = subprocess.run(["/bin/sh", str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "['a b', '$HOME', \"it's\"] say \"hi\" $5\n"


def test_cpus_that_a_command_is_bound_to_are_the_containers() -> None:
    bound = replace(PLAIN, argv=(*taskset_prefix((0, 1, 2, 8)), *PLAIN.argv))

    assert "0-2,8" in compose_file(bound, "image")
    assert "taskset" not in compose_file(bound, "image")
    assert "taskset" not in kubernetes_manifest(bound, "image")
    assert "taskset --cpu-list 0-2,8" in systemd_unit(bound)
