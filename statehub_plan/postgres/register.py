"""The decision register: who is primary since which term; inserting a row is the single point of no return."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from psycopg.types.json import Jsonb

from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.state import claim_epoch, identity, read_state
from statehub_plan.postgres.transaction import Backend, begin, commit, commit_once, roll_back
from statehub_plan.world import TransferStage


class Decision(Frozen):
    """One row. `primary` None: the term was burned, that decision can no longer fall. `identity` is the database that
    holds the register, `run` who wrote the row."""

    term: int
    primary: str | None
    identity: Identity
    run: str
    decided_at: Instant


class Outcome(StrEnum):
    """What became of a `decide` or `burn`. Only `won` and `already-ours` mean that the register says what was asked."""

    WON = "won"
    ALREADY_OURS = "already-ours"
    LOST = "lost"
    STALE = "stale"
    UNPROVED = "unproved"

    @property
    def stands(self) -> bool:
        """True when the register says what was asked."""
        return self in (Outcome.WON, Outcome.ALREADY_OURS)


def read_decisions(connection: Connection, *, current: bool = False) -> tuple[Decision, ...]:
    """All rows, lowest term first; none where the tool was never installed. `current`: it is known to be."""
    if not current:
        present = connection.execute("SELECT to_regclass('statehub_plan.decision') IS NOT NULL").fetchone()
        if present is None or not present[0]:
            return ()
    rows = connection.execute(
        "SELECT term, primary_endpoint, identity, run, decided_at FROM statehub_plan.decision ORDER BY term"
    )
    return tuple(
        Decision(term=term, primary=primary, identity=Identity.model_validate(where), run=run, decided_at=at)
        for term, primary, where, run, at in rows
    )


def decide(
    connection: Connection,
    *,
    term: int,
    primary: str,
    run: str,
    epoch: int,
    hold: str,
    proof: str,
) -> Outcome:
    """Makes `primary` the primary of `term`, if no row for this or a higher term exists: the point of no return.

    `hold` and `proof` are those of the source's freeze for `term`.
    One transaction with `synchronous_commit` on.
    `already-ours`: this run had decided just that. `lost`: the term was decided otherwise, by another run, or burned.
    `stale`: a higher term exists. `unproved`: this database is not (or no longer) the one that was proved equal under
    that hold with that proof, and fenced since. A connection lost at COMMIT is answered by reading the register again;
    OutcomeUnknown when that cannot be done either.
    """

    proved = partial(_is_proved, term=term, hold=hold, proof=proof)
    return _write(connection, proved, term=term, primary=primary, run=run, epoch=epoch)


def burn(connection: Connection, *, term: int, run: str, epoch: int) -> Outcome:
    """Makes sure that `term` can never be decided; outcomes and failures as for `decide`.

    `already-ours` also when another run burned it; `lost` means that a primary was decided for it.
    """
    return _write(connection, lambda _: True, term=term, primary=None, run=run, epoch=epoch)


def take_over(connection: Connection, *, term: int, frozen_for: int, primary: str, run: str, epoch: int) -> Outcome:
    """Makes this database, which is `primary` and frozen for the lower term `frozen_for`, the primary of `term` by its
    own register; outcomes and failures as for `decide`.

    For where the database that it was frozen for is gone: a burned term in another that stands in its place says
    nothing to the one that is gone, should it come back with its own decision. `unproved`: this database is no longer
    frozen for that term, or was retired.
    """

    def allowed(conn: Connection) -> bool:
        current = read_state(conn, current=True)  # it was just locked
        frozen = current is not None and current.fence is not None and current.fence.term == frozen_for < term
        return frozen and current is not None and current.retired_run is None

    return _write(connection, allowed, term=term, primary=primary, run=run, epoch=epoch)


def begin_decision(
    connection: Connection,
    *,
    term: int,
    primary: str,
    run: str,
    epoch: int,
    hold: str,
    proof: str,
    backend: Backend,
    here: Identity,
    also: Callable[[Connection], None],
) -> tuple[Outcome, Callable[[float], bool]]:
    """`decide` up to its commit, which is returned with what it would come to: until then nobody sees it. The commit is
    given the longest wait for a synchronous standby, after which it stands without one, and returns whether one has it.

    For a session whose epoch was claimed there before, which has brought the tool's schema up to date; `backend` and
    `here` are its own, asked while nobody waited. The open transaction is the caller's to roll back, which closing the
    session does too."""
    proved = partial(_is_proved, term=term, hold=hold, proof=proof)
    try:
        with connection.pipeline():
            begin(connection)
            outcome = _insert(
                connection, proved, term=term, primary=primary, run=run, epoch=epoch, here=here, also=also, current=True
            )
    except BaseException:
        roll_back(connection)
        raise
    landed = partial(_landed, outcome=outcome, term=term, primary=primary, run=run)
    what = f"the decision of term {term}"
    return outcome, lambda wait_s: commit(connection, backend, landed, what=what, standby_wait_s=wait_s)


def _write(
    connection: Connection,
    allowed: Callable[[Connection], bool],
    *,
    term: int,
    primary: str | None,
    run: str,
    epoch: int,
) -> Outcome:
    what = f"the decision of term {term}" if primary else f"the burning of term {term}"
    return commit_once(
        connection,
        lambda conn: _insert(conn, allowed, term=term, primary=primary, run=run, epoch=epoch),
        lambda conn, outcome: _landed(conn, outcome=outcome, term=term, primary=primary, run=run),
        what=what,
    )


def _insert(
    connection: Connection,
    allowed: Callable[[Connection], bool],
    *,
    term: int,
    primary: str | None,
    run: str,
    epoch: int,
    here: Identity | None = None,
    also: Callable[[Connection], None] | None = None,
    current: bool = False,
) -> Outcome:
    claim_epoch(
        connection, epoch, current=current
    )  # its row lock makes deciding, burning and preparing of two runs take turns
    found = _outcome(connection, term, primary, run, current=current)
    if found is None and not allowed(connection):
        return Outcome.UNPROVED
    if found is None:
        connection.execute(
            "INSERT INTO statehub_plan.decision (term, primary_endpoint, identity, run) VALUES (%s, %s, %s, %s)",
            [term, primary, Jsonb((here or identity(connection)).model_dump(mode="json")), run],
        )
        if also is not None:
            also(connection)
    return found or Outcome.WON


def _landed(connection: Connection, *, outcome: Outcome, term: int, primary: str | None, run: str) -> bool:
    return outcome is not Outcome.WON or _outcome(connection, term, primary, run) is Outcome.ALREADY_OURS


def _outcome(
    connection: Connection, term: int, primary: str | None, run: str, *, current: bool = False
) -> Outcome | None:
    """What the register says about writing this row; None when nothing stands in the way."""
    decisions = {decision.term: decision for decision in read_decisions(connection, current=current)}
    present = decisions.get(term)
    if present is not None:
        ours = present.primary == primary and (primary is None or present.run == run)
        return Outcome.ALREADY_OURS if ours else Outcome.LOST
    return Outcome.STALE if decisions and max(decisions) > term else None


def _is_proved(connection: Connection, *, term: int, hold: str, proof: str) -> bool:
    """Under the state row's lock: whoever refills, empties or opens this database says so in that row. A side that
    follows has been frozen since an earlier term, a side that was filled since this one."""
    state = read_state(connection, current=True)  # it was just locked
    if state is None or state.fence is None or state.transfer is None:
        return False
    mark = state.transfer
    found = (mark.stage, mark.term, mark.hold, mark.proof)
    return state.fence.term <= term and found == (TransferStage.PROVED, term, hold, proof)
