"""Choose the certificates to trust: the system's, or the environment's."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path

from launcher.errors import UsageError

# the first that is set decides: OpenSSL's own names, then those that requests and curl taught people to set
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

AUTHORITY_HINT = "if the network has an authority of its own, set SSL_CERT_FILE to its certificate"


def trusted_certificates() -> ssl.SSLContext:
    """Return the certificates to trust. Raises UsageError if the variable names nothing readable."""
    name = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    return _context(name, os.environ[name] if name else "")


@functools.cache  # reading the authorities takes 40 ms, and every connection needs them
def _context(name: str | None, path: str) -> ssl.SSLContext:
    if name is None:
        import httpx2  # noqa: PLC0415  it takes 15 ms, and what is asked on loopback is plain HTTP

        return httpx2.create_ssl_context()
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise UsageError(
            f"{name}={path} is not a file or folder of certificates: {reason}", hint=f"unset {name}"
        ) from error
