"""The only writer of a process: it puts whatever was asked for during one commit into the next.

A commit waits for the disk. With one commit per request, the disk bounds the requests per second; in groups it does
not, and no two threads of a process wait for each other's lock.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from api.database import Database

T = TypeVar("T")
Write = Callable[[sa.Connection], T]
"""A function that one transaction runs. A class of writes may have `together(connection, writes)`, which makes several
that follow each other and returns the result of each: one statement for all, as each is a round trip."""
Asked = tuple[Write[Any], "asyncio.Future[Any]"]
MAX_GROUP = 200
"""Writes that go into one commit at most."""


class Writer:
    """Runs functions in transactions of a thread of its own; each result is known once its commit is durable."""

    def __init__(self, database: Database, timeout_s: float) -> None:
        self._database, self._timeout_s = database, timeout_s
        self._inbox: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    async def write(self, write: Write[T]) -> T:
        """Run `write` in a transaction, and return its result after the commit.

        Raises:
            TimeoutError: the database did not commit in time; the write may still happen.
            sqlalchemy.exc.OperationalError: the database cannot be reached.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._inbox.put((write, future))
        async with asyncio.timeout(self._timeout_s):  # `wait_for` of Python 3.11 may swallow a cancellation
            return await future

    def close(self) -> None:
        """Finish the writes that were asked for, and stop."""
        self._inbox.put(None)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            asked = [self._inbox.get()]
            while len(asked) < MAX_GROUP and not self._inbox.empty():  # only this thread takes from it
                asked.append(self._inbox.get())
            is_last = None in asked
            self._commit([one for one in asked if one is not None and not one[1].cancelled()])

    def _commit(self, group: list[Asked]) -> None:
        """Commit a group; one that fails is done again write by write, so that only the culprit fails."""
        if not group:
            return
        results: list[Any] = []
        failed: Exception | None = None
        try:
            with self._database.write_engine.begin() as connection:
                results += _made(connection, [write for write, _ in group])
        except Exception as error:
            if len(group) > 1 and not isinstance(error, sa.exc.OperationalError):
                for one in group:
                    self._commit([one])
                return
            failed = error
        futures = [future for _, future in group]
        futures[0].get_loop().call_soon_threadsafe(_settle, futures, results, failed)


def _made(connection: sa.Connection, writes: list[Write[Any]]) -> Iterator[Any]:
    """Make the writes in their order, and yield the result of each."""
    for kind, group in itertools.groupby(writes, type):
        together, neighbours = getattr(kind, "together", None), list(group)
        yield from together(connection, neighbours) if together else (write(connection) for write in neighbours)


def _settle(futures: list[asyncio.Future[Any]], results: list[Any], error: Exception | None) -> None:
    """Give every future its result, in the thread of the loop, which is woken once for the group."""
    for number, future in enumerate(futures):
        if future.done():  # its request gave up
            continue
        if error is None:
            future.set_result(results[number])
        else:
            future.set_exception(error)
