"""Prepare llama-server's environment: what programs of its kind read, and no secret of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

# Beginnings of variables that would silently change llama-server: options by environment (common/arg.cpp,
# set_env) and the child protocol, under which it exits when stdin closes (tools/server/server-models.cpp).
_SILENT = ("LLAMA_ARG_", "LLAMA_API_KEY", "LLAMA_LOG_", "LLAMA_SERVER_", "LLAMA_OFFLINE")

# What it may need is listed, not what it must not have: nobody knows the names of all secrets.
_NEEDED = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TMP TEMP TERM LOCPATH LOCALE_ARCHIVE
    DISPLAY WAYLAND_DISPLAY DBUS_SESSION_BUS_ADDRESS GLIBC_TUNABLES
    SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
"""

# By line: the system and its loaders; Python (the supervisor), launcher, llama.cpp, ggml and the Hub's cache;
# NVIDIA; AMD; Intel and oneAPI; Moore Threads, OpenCL, Metal; Vulkan's loader and Mesa; Mesa's drivers;
# threads and BLAS; sanitizers, for engines of developers.
_NEEDED_BEGINNINGS = """
    LC_ XDG_ LD_ DYLD_ NIX_ MALLOC_ MIMALLOC_ JEMALLOC_ TCMALLOC_
    PYTHON LAUNCHER_ LLAMA_ GGML_ HF_
    CUDA_ NVIDIA_ NCCL_ CUBLAS CUDNN __GL __NV_ __EGL_ EGL_
    AMD_ AMDGPU_ GPU_ HIP HSA_ ROC RADEON_ TENSILE_ MIOPEN_
    INTEL_ ONEAPI_ ONEDNN_ DNNL_ SYCL_ UR_ ZE_ ZES_ ZET_ NEO IGC_
    MUSA_ OCL_ OPENCL_ CL_ POCL_ MTL_ METAL_
    VK_ VULKAN_ DISABLE_LAYER_ MESA_ GALLIUM_ LIBGL_ DRI_
    LP_ RADV_ ACO_ ANV_ NVK_ TU_ ZINK_ D3D12_
    OMP_ GOMP_ KMP_ LIBOMP TBB_ NUMA MKL_ OPENBLAS_ GOTO_ BLIS_ VECLIB_ ARMPL_
    ASAN_ UBSAN_ TSAN_ LSAN_
"""
_IS_NEEDED = frozenset(_NEEDED.split())
_MAY_BE_NEEDED = tuple(_NEEDED_BEGINNINGS.split())

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|_PWD(?:_|$)"
    r"|(?:^|_)(?:KEYS?|PASS|PAT|AUTH|COOKIE|PRIVATE)(?:_|$)"
)
_SECRET_VALUE = re.compile(r"://[^/\s@]{1,1000}@")  # a URL with a user or password, as proxies have


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Why(StrEnum):
    """Why a variable is not passed on."""

    SILENT = "it would change llama-server silently"
    SECRET = "it looks like a secret"  # noqa: S105  no password: a reason
    UNNEEDED = "llama-server does not need it"


def why_dropped(name: str, value: str) -> Why | None:
    """Tell why a variable is not passed on; None if it is."""
    if name.startswith(_SILENT):
        return Why.SILENT
    if is_secret(name, value):
        return Why.SECRET
    return None if name in _IS_NEEDED or name.startswith(_MAY_BE_NEEDED) else Why.UNNEEDED


def is_variable_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_secret(name: str, value: str) -> bool:
    """Tell if a variable is named like a secret, or holds a URL with credentials."""
    return _SECRET_NAME.search(name.upper()) is not None or _SECRET_VALUE.search(value) is not None


def engine_env(
    environ: Mapping[str, str], added: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the environment for llama-server, and the names dropped from `environ`."""
    given = dict(added or {})
    passed_on = {name: value for name, value in environ.items() if why_dropped(name, value) is None}
    dropped = tuple(sorted(name for name in environ if name not in passed_on and name not in given))
    return passed_on | given, dropped


def config_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """List llama.cpp's own config files, which llama-server applies silently."""
    # common/arg.cpp, common_params_parse; fs_get_config_directory
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    places = (Path("/etc"), Path(home))
    return tuple(path for place in places if (path := place / "llama.cpp" / "config.ini").is_file())
