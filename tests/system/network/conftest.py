"""The local Hub of the tests of models."""

from __future__ import annotations

from tests.models.conftest import endpoint, hub, store

__all__ = ["endpoint", "hub", "store"]
