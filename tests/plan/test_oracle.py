from __future__ import annotations

import pytest

from launcher.plan.oracle import Refusal


@pytest.mark.parametrize(
    ("model_refused", "unavailable", "unanswered"),
    [(False, False, True), (True, False, False), (False, True, False), (True, True, False)],
)
def test_only_a_simulator_that_was_asked_leaves_a_question_open(
    model_refused: bool, unavailable: bool, unanswered: bool
) -> None:
    refusal = Refusal(reason="x", model_refused=model_refused, unavailable=unavailable)
    assert refusal.is_unanswered == unanswered
