"""What is exported is read by the real readers: systemd-analyze, kubernetes-validate, compose-spec, sh."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.install.containers import compose_file, image_of, kubernetes_manifest
from launcher.deployment.install.export import (
    Export,
    shell_script,
    systemd_unit,
)
from launcher.deployment.install.systemd import (
    unit_name,
    verify_unit,
)
from launcher.engine.flags.taskset import taskset_prefix
from launcher.errors import EngineFailed, UsageError

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
    files=(("/data/a b/kimi.gguf", "/models/0/kimi.gguf"),),
    inside=(("/data/a b/kimi.gguf", "/models/0/kimi.gguf"),),
    port=8123,
    host_bytes=10 << 30,
    limit_bytes=12 << 30,
)
KEYED = replace(
    PLAIN,
    argv=(*PLAIN.argv, "--api-key-file", "/etc/keys"),
    api_key_file="/etc/keys",
    devices=("CUDA0", "CUDA1"),
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
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (len(export.devices) or None)
    assert "/models/0/kimi.gguf" in container["args"]
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


def inside_of(text: str) -> tuple[dict[str, object], list[str]]:
    """The one service of a compose file, and the words that its server gets."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (service,) = yaml.safe_load(text)["services"].values()
    return service, service["command"]


@pytest.mark.parametrize("export", [PLAIN, KEYED], ids=["plain", "keyed"])
def test_every_container_has_a_key_and_no_more_rights_than_it_needs(export: Export) -> None:
    text = compose_file(export)
    service, words = inside_of(text)
    assert words[words.index("--host") + 1] == "0.0.0.0"
    assert words.count("--api-key-file") == 1
    assert words[words.index("--api-key-file") + 1] == "/keys/api-key"
    assert service["secrets"] == [{"source": "api-key", "target": "/keys/api-key"}]
    assert ("/etc/keys" if export is KEYED else "./kimi-k2-5.key") in text
    assert ("openssl rand" in text) is (export is PLAIN)
    assert service["user"] == "65532:65532"
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    manifest = kubernetes_manifest(export)
    for line in ("runAsNonRoot: true", "readOnlyRootFilesystem: true", 'mountPath: "/keys"'):
        assert line in manifest
    assert "/etc/keys" not in manifest


def test_a_start_in_a_container_without_its_key_ends(tmp_path: Path) -> None:
    """The very words of the file, run here with /keys and the program elsewhere."""
    service, words = inside_of(compose_file(PLAIN))
    entrypoint = service["entrypoint"]
    assert isinstance(entrypoint, list)
    argv = [
        word.replace("$$", "$").replace("/keys/", f"{tmp_path}/").replace("/app/llama-server", "/bin/echo")
        for word in (*entrypoint, *words)
    ]
    for content, code in ((None, 78), ("", 78), ("# no\n", 78), ("sk-1\n", 0)):
        if content is not None:
            (tmp_path / "api-key").write_text(content)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == code, done
    assert "/models/0/kimi.gguf" in done.stdout


def test_what_nobody_has_to_read_is_named() -> None:
    said = "# User 65532 has to read the files: chmod a+r '/data/a b/kimi.gguf'"
    assert f"{said} /etc/keys\n" in compose_file(KEYED)
    assert f"{said}\n" in kubernetes_manifest(KEYED)
    assert "has to read" not in compose_file(replace(KEYED, user="1000:1000"))
    odd = replace(PLAIN, files=(("/data/a\nb: c.gguf", "/models/0/a.gguf"),))
    assert "b: c" not in kubernetes_manifest(odd).partition("apiVersion")[0]


def test_a_server_that_was_opened_is_published_where_it_was() -> None:
    opened = replace(KEYED, publish="0.0.0.0")
    assert '"0.0.0.0:8123:8123"' in compose_file(opened)
    assert '"[::1]:8123:8123"' in compose_file(replace(KEYED, publish="::1"))


@pytest.mark.parametrize(
    ("devices", "flavour", "build", "image"),
    [
        ((), "", None, "server-b11026"),
        (("CUDA0",), "cuda", "b11434", "server-cuda-b11434"),
        (("ROCm0",), "rocm", "b11434", "server-rocm-b11434"),
        (("Vulkan0",), "vulkan", "0.5.0_dev", "server-vulkan-b11026"),
        (("SYCL0",), "intel", None, "server-intel-b11026"),
    ],
)
def test_images_are_real_names_of_one_build(
    devices: tuple[str, ...], flavour: str, build: str | None, image: str
) -> None:
    export = replace(PLAIN, devices=devices, build=build)
    assert image_of(export) == f"ghcr.io/ggml-org/llama.cpp:{image}"
    assert f'image: "ghcr.io/ggml-org/llama.cpp:{image}"' in compose_file(export)
    by_digest = compose_file(export, "own@sha256:1")
    assert 'image: "own@sha256:1"' in by_digest
    for written in (compose_file, *((kubernetes_manifest,) if flavour in {"", "cuda", "rocm"} else ())):
        assert f"skopeo inspect docker://ghcr.io/ggml-org/llama.cpp:{image}\n" in written(export)
        assert "skopeo" not in written(export, "own@sha256:1")


def test_gpus_are_asked_for_by_name_and_numbered_anew() -> None:
    argv = (*PLAIN.argv, "-dev", "CUDA1,CUDA3", "-ts", "5,6", "-md", "/data/d.gguf", "-devd", "CUDA3")
    export = replace(
        PLAIN, argv=argv, devices=("CUDA1", "CUDA3"), uuids=(("CUDA1", "GPU-b"), ("CUDA3", "GPU-d"))
    )
    service, words = inside_of(compose_file(export))
    assert words[words.index("-dev") + 1] == "CUDA0,CUDA1"
    assert words[words.index("-devd") + 1] == "CUDA1"
    assert "device_ids" in compose_file(export)
    assert "GPU-b" in str(service["deploy"])
    assert "GPU-d" in str(service["deploy"])
    assert "nvidia.com/gpu: 2" in kubernetes_manifest(export)
    rocm = replace(PLAIN, argv=(*PLAIN.argv, "-dev", "ROCm1"), devices=("ROCm1",))
    service, words = inside_of(compose_file(rocm))
    assert words[-1] != "ROCm0"
    assert "ROCm1" in words  # it sees all of them
    assert service["devices"] == ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"]
    assert "amd.com/gpu: 1" in kubernetes_manifest(rocm)
    assert '"ROCm0"' in kubernetes_manifest(rocm)
    with pytest.raises(UsageError, match="no resource for Vulkan"):
        kubernetes_manifest(replace(PLAIN, devices=("Vulkan0",)))


def test_companions_and_every_shard_are_mounted() -> None:
    files = (
        ("/b/1", "/models/0/m-00001-of-00002.gguf"),
        ("/b/2", "/models/0/m-00002-of-00002.gguf"),
        ("/d/draft.gguf", "/models/1/draft.gguf"),
        ("/l/a.gguf", "/models/2/a.gguf"),
    )
    inside = (
        ("/c/m-00001-of-00002.gguf", "/models/0/m-00001-of-00002.gguf"),
        ("/d/draft.gguf", "/models/1/draft.gguf"),
        ("/l/a.gguf", "/models/2/a.gguf"),
    )
    argv = ("x", "-m", inside[0][0], "-md", "/d/draft.gguf", "--lora-scaled", "/l/a.gguf:0.5,/l/a.gguf:1")
    export = replace(PLAIN, argv=argv, files=files, inside=inside)
    service, words = inside_of(compose_file(export))
    assert service["volumes"] == [f"{host}:{there}:ro" for host, there in files]
    assert words[1::2][:3] == [
        "/models/0/m-00001-of-00002.gguf",
        "/models/1/draft.gguf",
        "/models/2/a.gguf:0.5,/models/2/a.gguf:1",
    ]
    for _, there in files:
        assert f'mountPath: "{there}"' in kubernetes_manifest(export)


def test_a_start_at_boot_waits_for_its_gpus(tmp_path: Path) -> None:
    """The unit's own words, run by sh with a program that sees its GPU only the second time."""
    server = tmp_path / "llama-server"
    seen = tmp_path / "seen"
    server.write_text(f'#!/bin/sh\n[ -e {seen} ] && echo "  CUDA0: RTX (24 GiB)"; touch {seen}\n')
    server.chmod(0o755)
    export = replace(PLAIN, argv=(str(server), *PLAIN.argv[1:]), devices=("CUDA0",))
    (line,) = [each for each in systemd_unit(export).splitlines() if "--list-devices" in each]
    words = shlex.split(line.removeprefix("ExecStartPre=").replace("$$", "$").replace("%%", "%"))
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    missing = [*words[:2], words[2].replace("-ge 300", "-ge 0"), *words[3:], "CUDA7"]
    done = subprocess.run(missing, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 75
    assert "CUDA7" in done.stderr
    assert "--list-devices" not in systemd_unit(PLAIN)


def test_a_unit_backs_off() -> None:
    assert "RestartSteps=5\nRestartMaxDelaySec=60\n" in systemd_unit(PLAIN)
