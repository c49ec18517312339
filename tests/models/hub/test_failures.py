"""Sentences about the Hub say what a reader can use."""

from __future__ import annotations

from launcher.models.hub.endpoint import endpoint_in_use
from launcher.models.hub.failures import why_not_read
from launcher.system.network.trouble import Trouble, TroubleKind


def test_no_commit_is_in_the_sentence() -> None:
    trouble = Trouble(kind=TroubleKind.UNREACHABLE, reason="Name or service not known")
    endpoint = endpoint_in_use()
    error = why_not_read(trouble, endpoint=endpoint, repo="user/repo", what="e4d4bafd" * 5)
    assert error.message == f"{endpoint.host} cannot be reached for user/repo: Name or service not known"
    error = why_not_read(trouble, endpoint=endpoint, repo="user/repo", what="main")
    assert "for main of user/repo" in error.message
