"""Write down what a deployment reserves, and how its loads went."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from launcher.deployment import claims, history, process
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.deployment.records import now
from launcher.deployment.supervisor.child import Child
from launcher.engine.log.cause import Cause
from launcher.engine.log.load_log import usage_by_row


class Bookkeeping:
    """Writer of claim and history."""

    def __init__(self, folder: Path, name: str, options: SupervisorOptions) -> None:
        self._options = options
        self._key = claims.claim_key(folder, name)

    def claim(self, record: Deployment, *, loaded: bool) -> None:
        """Take over the reserved memory from the launcher."""
        folder, me = self._options.claim_folder, record.supervisor
        if folder is None or me is None:
            return
        claim = claims.Claim(name=record.name, process=me, rows=self._options.claim, loaded=loaded)
        with contextlib.suppress(OSError):  # a full disk ends no server
            claims.write_claim(Path(folder), self._key, claim)

    def drop_claim(self) -> None:
        if self._options.claim_folder is not None:
            claims.drop_claim(Path(self._options.claim_folder), self._key)

    def note_load(self, record: Deployment, child: Child, cause: Cause | None) -> None:
        if self._options.history is None:
            return
        attempt = self._options.attempt
        activity = None if record.process is None else process.read_activity(record.process)
        entry = history.HistoryEntry(
            at=now(),
            name=record.name,
            model_id=record.model_id,
            identity=history.Identity(
                plan="" if record.plan is None else history.plan_key(record.plan),
                engine=record.engine_sha256,
                driver=self._options.driver,
            ),
            outcome=history.outcome_of(cause),
            load_s=round(time.monotonic() - child.began if child.load_s is None else child.load_s, 2),
            cause=None if cause is None else cause.sentence,
            rows=history.compare_rows(record.ledger, usage_by_row(child.log())),
            driver_bytes=dict(child.vram_growth.read()),
            resident_bytes=None if activity is None else activity.resident_bytes,
            step=attempt.step,
            saves=attempt.saves,
            correction=attempt.correction,
        )
        with contextlib.suppress(OSError):
            history.append_entry(Path(self._options.history), entry)
