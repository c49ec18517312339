"""Say whether a plan fits, as far as that is known."""

from __future__ import annotations

from launcher.plan.plan import Finding


def say_finding(finding: Finding, unverified: str | None) -> str:
    """Say whether it fits; "yes" alone only where llama.cpp's own allocator says so."""
    match finding:
        case Finding.FITS:
            return "yes"
        case Finding.FITS_BY_ESTIMATE:
            return "yes, by estimate: no simulator could be asked"
        case Finding.UNVERIFIED:
            return f"not verified: by estimate it would ({unverified})"
        case Finding.DOES_NOT_FIT:
            return "no"
