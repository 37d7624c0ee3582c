"""Takes what an ordinary migration has made on both sides into a following fallback's stream; not a step of its own."""

from __future__ import annotations

from typing import NoReturn

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import Grounded
from statehub_plan.errors import Exit, Refusal, StatehubError
from statehub_plan.model.facts import Observation
from statehub_plan.model.stream import StreamState
from statehub_plan.postgres.refresh import Refreshed, RefreshEnds, refresh_stream
from statehub_plan.redact import redact
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage
from statehub_plan.streams import stream_between
from statehub_plan.world import Role, Term, Writes

STREAM_REFRESHED_KIND = "stream-refreshed"
"""Kind of the record; its state is `begun` before anything is done, then `passed` or `failed`."""

_WAY_BACK = 'README, "When the fallback is lost or no longer follows"'


def refresh_fallback(stage: Stage, observation: Observation, grounded: Grounded) -> Refreshed:
    """Fences, publishes and copies, with facts on record before and after; returns once the stream has everything.

    Refusal before anything is done where the fallback doesn't follow or roles are not clear, and as of
    `refresh_stream`; LeaseLost (exit 6) where another run has taken over."""
    require_following(stage, observation, grounded)
    primary, fallback = stage.plan.new, stage.plan.old
    ends = RefreshEnds(
        primary=primary,
        fallback=fallback,
        primary_dsn=stage.dsn(primary),
        fallback_dsn=stage.dsn(fallback),
        subscriber_dsn=stage.subscriber_dsn(fallback),
    )
    stage.record_fact(STREAM_REFRESHED_KIND, "begun", {"endpoint": fallback})
    try:
        done = refresh_stream(
            ends,
            epoch=stage.epoch,
            on_progress=lambda one: tell(stage, one),
            check=stage.checkpoint,
            moment=stage.moment,
        )
    except StatehubError as error:
        if error.exit_status is not Exit.LOCKED:
            _failed(stage, error.what)
        raise
    except psycopg.Error as error:
        why = redact(" ".join(str(error).split()))
        _failed(stage, why)
        raise StatehubError(
            code="database-failed",
            what=f"the stream into {fallback} was not refreshed: {why}",
            hint="the message is the server's own; mend that, then run `refresh` again: it carries on",
        ) from error
    payload: dict[str, JsonValue] = done.model_dump(mode="json")
    stage.record_fact(STREAM_REFRESHED_KIND, "passed", {"endpoint": fallback, **payload})
    return done


def require_following(stage: Stage, observation: Observation, grounded: Grounded) -> None:
    """Refusal unless the primary by its register serves and a stream from it into the fallback is there and can go on;
    that the fallback is not proved frozen is what this may be called for."""
    primary, fallback, world = stage.plan.new, stage.plan.old, grounded.world
    if world.primary is not Role.NEW or world.term is not Term.SETTLED:
        _refuse(
            "primary-unknown", f"who is primary is not clear: {grounded.register.basis}", "`status` says what to do"
        )
    if world.new.writes is not Writes.OPEN:
        why = f"{primary} is primary and is not seen to accept writes ({world.new.writes})"
        _refuse("primary-not-open", why, "`status` says what to do first")
    if world.old.writes in (Writes.OPEN, Writes.HELD):
        why = f"{fallback} is the fallback and is not frozen ({world.old.writes})"
        _refuse("fallback-not-frozen", why, "`plan` and `apply` freeze it; then run `refresh` again")
    if world.retired:
        _refuse("fallback-retired", f"{fallback} is retired", "nothing follows there any more")
    stream = stream_between(observation, fallback, primary)
    if not stream.observed:
        _refuse("stream-unobservable", f"the stream into {fallback} could not be seen: {stream.why}", "mend that first")
    if stream.state in (StreamState.NOBODY, StreamState.LOST):
        _refuse("not-following", f"{fallback} does not follow {primary}: {stream.why}", f"fill it anew: {_WAY_BACK}")
    if stream.state is StreamState.READY:
        why = f"the stream into {fallback} is set up and not started"
        _refuse("not-following", why, "`plan` and `apply` start it; then run `refresh` again")
    back = stream_between(observation, primary, fallback)
    if not back.observed:
        why = f"whether a switch to {fallback} is prepared could not be seen: {back.why}"
        _refuse("stream-unobservable", why, "mend that first")
    if back.state is not StreamState.NOBODY:
        why = f"a switch from {primary} to {fallback} is prepared, or was interrupted: a stream leads back already"
        hint = f"`abort` and `apply` keep {primary} and take that away; then run `refresh` again"
        _refuse("switch-prepared", why, hint)


def _refuse(code: str, what: str, hint: str) -> NoReturn:
    raise Refusal(code=code, what=f"{what}; nothing was done", hint=hint)


def _failed(stage: Stage, why: str) -> None:
    stage.record_fact(STREAM_REFRESHED_KIND, "failed", {"endpoint": stage.plan.old, "why": why})
