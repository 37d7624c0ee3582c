"""Many pieces of server work at once: threads that wait for servers, and one that watches over them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import psycopg

__all__ = [
    "Crew",
    "OnProgress",
    "Progress",
    "Session",
    "at_once",
    "cancel_statement",
    "nobody_looks",
    "nothing_to_lose",
    "run_crews",
]


class Session(Protocol):
    """What a worker works with and another thread may interrupt: a connection, or a program that has one."""

    def cancel_safe(self, *, timeout: float) -> None:
        """Ends what it is doing, from another thread."""

    def close(self) -> None:
        """Gives it up."""


TaskT = TypeVar("TaskT")
SessionsT = TypeVar("SessionsT", bound=tuple[Session, ...])
ResultT = TypeVar("ResultT")

_LOOK_S = 0.05
_CANCEL_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long phase has come: `done` of `total` (0: not known) in `unit`, after `elapsed_s`. `subject`: what is
    worked on."""

    phase: str
    done: int
    total: int
    unit: str
    elapsed_s: float
    subject: str = ""

    @property
    def rate(self) -> float:
        """Units per second so far."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at this rate; None before there is one."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


OnProgress = Callable[[Progress], None]


def nobody_looks(progress: Progress) -> None:
    """The progress of whoever gives none."""


def nothing_to_lose() -> None:
    """The check of whoever gives none."""


@dataclass(frozen=True)
class Crew(Generic[TaskT, SessionsT, ResultT]):
    """Tasks in the order in which they are begun, and the workers for them: up to `jobs` threads, each with sessions of
    its own from `connect`, all of which are closed in the end. `work` runs in those threads."""

    tasks: Sequence[TaskT]
    work: Callable[[TaskT, SessionsT], ResultT]
    connect: Callable[[], SessionsT]
    jobs: int


def run_crews(
    crews: Iterable[Crew[TaskT, SessionsT, ResultT]], *, tick: Callable[[], None] = nothing_to_lose
) -> list[list[ResultT]]:
    """What every task of every crew returned, in the order of the tasks; blocks until all are done.

    `tick` is called in this thread every 50 ms and may raise. The first error anywhere, that of `tick` included, stops
    everything: statements under way are cancelled, sessions closed, and that error is raised.
    """
    members = [_Member(crew) for crew in crews]
    stop = threading.Event()
    count = sum(min(member.crew.jobs, len(member.crew.tasks)) for member in members)
    if count == 0:
        return [[] for _ in members]
    with ThreadPoolExecutor(max_workers=count, thread_name_prefix="statehub-plan") as pool:
        futures = [
            pool.submit(member.labour, stop)
            for member in members
            for _ in range(min(member.crew.jobs, len(member.crew.tasks)))
        ]
        try:
            _watch(futures, tick)
        finally:
            stop.set()
            _cancel_until_done(futures, members)
    return [member.collected() for member in members]


def at_once(
    works: Sequence[Callable[[], ResultT]], *, cancel: Callable[[], None], tick: Callable[[], None] = nothing_to_lose
) -> list[ResultT]:
    """What these return, each in a thread of its own, for sessions that outlive the work; blocks until all are done.

    `tick` is called in this thread every 50 ms, once at least, and may raise. After the first error, that of `tick`
    included, `cancel` is called until all have ended, and that error is raised.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(works)), thread_name_prefix="statehub-plan") as pool:
        futures = [pool.submit(work) for work in works]
        try:
            _watch(futures, tick)
        finally:
            while wait(futures, timeout=0).not_done:  # as in `_cancel_until_done`
                cancel()
                wait(futures, timeout=_LOOK_S)
    return [future.result() for future in futures]


def cancel_statement(session: Session) -> None:
    """Ends what a session of another thread is doing; one that does nothing, or is gone, is left alone."""
    with suppress(psycopg.Error):
        session.cancel_safe(timeout=_CANCEL_TIMEOUT_S)


def _watch(futures: list[Future[ResultT]], tick: Callable[[], None]) -> None:
    left = set(futures)
    while left:
        done, left = wait(left, timeout=_LOOK_S, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        tick()


def _cancel_until_done(futures: list[Future[None]], members: list[_Member[TaskT, SessionsT, ResultT]]) -> None:
    """Again and again: a cancellation that finds a session between two statements is lost on it."""
    while wait(futures, timeout=0).not_done:
        for member in members:
            member.cancel()
        wait(futures, timeout=_LOOK_S)


class _Member(Generic[TaskT, SessionsT, ResultT]):
    """A crew at work: its queue, its open sessions, its results."""

    def __init__(self, crew: Crew[TaskT, SessionsT, ResultT]) -> None:
        self.crew = crew
        self._queue = deque(enumerate(crew.tasks))
        self._results: dict[int, ResultT] = {}
        self._open: list[SessionsT] = []

    def labour(self, stop: threading.Event) -> None:
        sessions = self.crew.connect()
        self._open.append(sessions)
        try:
            while not stop.is_set():
                try:
                    index, task = self._queue.popleft()
                except IndexError:
                    return
                self._results[index] = self.crew.work(task, sessions)
        finally:
            self._open.remove(sessions)
            for session in sessions:
                session.close()

    def cancel(self) -> None:
        for sessions in tuple(self._open):
            for session in sessions:
                cancel_statement(session)

    def collected(self) -> list[ResultT]:
        return [self._results[index] for index in range(len(self.crew.tasks))]
