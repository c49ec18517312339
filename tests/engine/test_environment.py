"""The environment that llama-server gets."""

from __future__ import annotations

import pytest

from launcher.engine.environment import Why, engine_env, why_dropped

PASSED_ON = """
    PATH HOME LANG LC_ALL TMPDIR XDG_RUNTIME_DIR XDG_CACHE_HOME LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH
    CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_CACHE_PATH NVIDIA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES
    ROCR_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION GGML_VK_VISIBLE_DEVICES GGML_CUDA_ENABLE_UNIFIED_MEMORY
    GGML_METAL_PATH_RESOURCES VK_ICD_FILENAMES VK_DRIVER_FILES VK_LOADER_DEBUG MESA_SHADER_CACHE_DIR MESA_VK_DEVICE_SELECT
    RADV_PERFTEST LP_NUM_THREADS GALLIUM_DRIVER ONEAPI_DEVICE_SELECTOR ZES_ENABLE_SYSMAN SYCL_CACHE_PERSISTENT
    UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS OMP_NUM_THREADS GOMP_CPU_AFFINITY KMP_AFFINITY OPENBLAS_NUM_THREADS
    MKL_NUM_THREADS HF_HOME HF_ENDPOINT LLAMA_CACHE PYTHONPATH LAUNCHER_HOME no_proxy https_proxy
"""

SECRETS = """
    HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_HUB_TOKEN OPENAI_API_KEY AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID GITHUB_TOKEN
    GH_PAT AZURE_CLIENT_SECRET PGPASSWORD MYSQL_PWD DB_PASS MY_PASSPHRASE GOOGLE_APPLICATION_CREDENTIALS
    LLAMA_TOKEN GGML_KEY CUDA_SECRET XDG_SESSION_COOKIE LAUNCHER_PASSWORD LD_PRIVATE_KEY hf_token
"""


def test_what_would_change_llama_server_silently_is_dropped() -> None:
    given = {"PATH": "/bin", "LLAMA_ARG_CTX_SIZE": "1", "LLAMA_API_KEY": "x", "LLAMA_SERVER_ROUTER_PORT": "1"}
    env, dropped = engine_env(given, {"LLAMA_ARG_N_PREDICT": "5"})
    assert env == {"PATH": "/bin", "LLAMA_ARG_N_PREDICT": "5"}
    assert dropped == ("LLAMA_API_KEY", "LLAMA_ARG_CTX_SIZE", "LLAMA_SERVER_ROUTER_PORT")


@pytest.mark.parametrize(
    "name",
    PASSED_ON.split(),
)
def test_what_drivers_loaders_and_libraries_read_is_passed_on(name: str) -> None:
    assert why_dropped(name, "http://proxy:3128") is None


@pytest.mark.parametrize(
    "name",
    SECRETS.split(),
)
def test_what_is_named_like_a_secret_is_not(name: str) -> None:
    assert why_dropped(name, "x") is Why.SECRET
    assert engine_env({name: "x"}, {name: "y"}) == ({name: "y"}, ())


def test_a_url_with_credentials_is_a_secret() -> None:
    for value in ("http://me:pw@proxy:3128", "socks5://me@proxy"):
        assert why_dropped("HTTPS_PROXY", value) is Why.SECRET
    assert why_dropped("HF_ENDPOINT", "https://hub.example/a@b") is None


def test_what_nobody_reads_stays_here() -> None:
    assert why_dropped("PWD", "/") is why_dropped("OLDPWD", "/") is Why.UNNEEDED
    given = {"DATABASE": "x", "SSH_AUTH_SOCK": "y", "EDITOR": "vi", "PATH": "/bin"}
    assert engine_env(given) == ({"PATH": "/bin"}, ("DATABASE", "EDITOR", "SSH_AUTH_SOCK"))
