"""Do what blocks in threads that end with the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_Outcome = TypeVar("_Outcome")


async def in_thread(work: Callable[[], _Outcome]) -> _Outcome:
    """Return what `work` returns, or raise what it raises, done in a thread of its own.

    The end of the process does not wait for it: a load that takes minutes is taken over by the next gateway.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_Outcome] = loop.create_future()

    def tell(act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(act)

    def succeed(value: _Outcome) -> None:
        if not outcome.done():
            outcome.set_result(value)

    def fail(error: BaseException) -> None:
        if not outcome.done():
            outcome.set_exception(error)

    def run() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            caught = error
            tell(lambda: fail(caught))
        else:
            tell(lambda: succeed(value))

    threading.Thread(target=run, name="gateway", daemon=True).start()
    return await outcome
