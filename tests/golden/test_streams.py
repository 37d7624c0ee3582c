"""What people read about a following fallback, in every form of it: while it follows, and once that is over."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from statehub_plan.history import history_of, lane_states
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Fact, Observation
from statehub_plan.model.plan import Identity, Plan
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.model.stream import stream_name
from statehub_plan.planning import make_plan
from statehub_plan.render import observation_view, plan_markdown, plan_view, status_markdown, status_view, told_streams
from statehub_plan.render.operating_model import operating_model_markdown
from statehub_plan.render.stream_words import size_text
from statehub_plan.status import LaneInput, Status, build_status
from tests.golden import examples
from tests.golden.examples import NEW, NOW, OLD, known, unknown
from tests.golden.golden import check, on_screen

MB, GB = 1 << 20, 1 << 30
NAME = stream_name(Identity(system_identifier=examples.SYSTEMS[OLD], database="statehub", database_oid=16384))
SUBSCRIPTION: dict[str, Any] = {
    "name": NAME,
    "enabled": True,
    "slot": NAME,
    "running": True,
    "tables": 7,
    "tables_ready": 7,
    "errors": 0,
    "last_received": epoch_s(NOW) - 60,
}
SLOT: dict[str, Any] = {
    "name": NAME,
    "database": "statehub",
    "active": True,
    "retained_bytes": 12 * MB,
    "lag_bytes": 200_000,
    "wal_status": "reserved",
    "ours": True,
}
DROPPED: dict[str, Any] = {
    "slot": NAME,
    "at": epoch_s(NOW) - 600,
    "why": "it kept 8589934600 bytes of WAL, and 8589934592 is the limit",
}


@cache
def document() -> CutoverPlan:
    """The example's document, by replication and with a fallback that follows."""
    plain = examples.document().model_dump(mode="json", by_alias=True)
    plain["spec"]["transfer"]["method"] = "replication"
    plain["spec"]["desired"]["fallback"]["mode"] = "following"
    return CutoverPlan.model_validate(plain)


def seen(*more: Fact, slots: list[dict[str, Any]], subscriptions: list[dict[str, Any]]) -> Observation:
    """An hour after the move."""
    return examples.observation(
        list(examples.after_cutover()),
        known(f"{NEW}.slots", list(slots)),
        known(f"{OLD}.slots", []),
        known(f"{OLD}.subscriptions", list(subscriptions)),
        known(f"{NEW}.subscriptions", []),
        known(f"{NEW}.disk_free_bytes", 80 * GB),
        *more,
    )


SEEN = {
    "streaming": seen(slots=[SLOT], subscriptions=[SUBSCRIPTION]),
    "ready": seen(slots=[SLOT | {"active": False}], subscriptions=[SUBSCRIPTION | {"enabled": False}]),
    "copying": seen(slots=[SLOT], subscriptions=[SUBSCRIPTION | {"tables_ready": 3}]),
    "broken": seen(
        slots=[SLOT | {"active": False, "lag_bytes": 3 * GB, "retained_bytes": 3 * GB}],
        subscriptions=[SUBSCRIPTION | {"running": False, "errors": 12}],
    ),
    "lost": seen(known(f"{NEW}.slot_dropped", DROPPED), slots=[], subscriptions=[SUBSCRIPTION]),
    "nobody": seen(slots=[], subscriptions=[]),
    "doubtful": seen(
        known(f"{OLD}.transfer", {"fill_stage": "following", "fill_timeline": 3}),
        known(f"{OLD}.timeline", 4),
        slots=[SLOT],
        subscriptions=[SUBSCRIPTION],
    ),
    "unseen": seen(
        unknown(f"{NEW}.slots", "connection refused: nothing listens"), slots=[], subscriptions=[SUBSCRIPTION]
    ),
}


def plan(state: str) -> Plan:
    """The plan made from what is seen then."""
    return make_plan(
        document(),
        observation=SEEN[state],
        evidence=examples.evidence(),
        now=NOW,
        author="alice@ops.example",
        tool_version="0.1.0",
        spec_digest="sha256:" + "11" * 32,
        spec_path="/srv/state-hub/plans/cust-wp-0011.yaml",
    )


def status(state: str) -> Status:
    """The lane's status then."""
    lane = LaneInput(
        document=document(),
        history=history_of(document(), {}, ()),
        reached=lane_states("cust-wp-0011", document(), ()),
        evidence=examples.evidence(),
        plan=plan(state),
    )
    return build_status([lane], NOW)


def test_sentences() -> None:
    """Every state in one sentence."""
    lines = [f"{state}: {told}" for state in sorted(SEEN) for told in told_streams(document(), SEEN[state])]
    check("streams/sentences.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("state", sorted(SEEN))
def test_every_form_says_it(state: str) -> None:
    """`observe`, `plan` and `status`, on a screen and as Markdown."""
    (told,) = told_streams(document(), SEEN[state])
    core = told.removeprefix(OLD).removeprefix(f"whether {OLD}").partition(",")[0].partition(" (")[0]
    core = core.replace(f"{OLD} does", "").replace("WAY BACK NOT LOSSLESS: ", "")
    forms = {
        "observe": on_screen(observation_view(SEEN[state], streams=(told,)), 400),
        "plan": on_screen(plan_view(plan(state), saved_as=None), 400),
        "plan as Markdown": plan_markdown(plan(state)),
        "status": on_screen(status_view(status(state)), 400),
        "status as Markdown": status_markdown(status(state)),
    }
    for form, text in forms.items():
        assert core.strip() in text, form
        assert ("WAY BACK NOT LOSSLESS" in text) == (state in ("lost", "nobody", "doubtful")), form


@pytest.mark.parametrize(
    ("state", "does"),
    [("streaming", "runs"), ("broken", "does not run"), ("lost", "is lost"), ("unseen", "could not be")],
)
def test_frozen_and_following_do_not_read_like_a_contradiction(state: str, does: str) -> None:
    """The operating model says both of a fallback, and when going back refuses."""
    written = operating_model_markdown(plan(state), SEEN[state], (), NOW)
    assert f"wishes it following, observed: frozen but for the stream into it, which {does}" in written
    assert f"Where `status` says NOT LOSSLESS, {OLD} lacks rows: going back refuses" in written
    fed = "The fallback wsl2 is retained: frozen but for the stream into it." in status_markdown(status(state))
    assert fed == (state in ("streaming", "broken"))


def test_json_carries_the_figures() -> None:
    """`status --json` has the stream itself and the limit of its slot."""
    fallback = status("streaming").lanes[0].fallback
    assert fallback is not None
    assert fallback.stream is not None
    assert (True, 200_000, 8 * GB) == (
        fallback.stream.lossless,
        fallback.stream.lag_bytes,
        fallback.retained_limit_bytes,
    )


def test_where_nothing_follows_and_nothing_should_nothing_is_said() -> None:
    """A frozen fallback is no follower that failed."""
    assert () == told_streams(examples.document(), examples.after_cutover())
    assert () == told_streams(document(), examples.before_cutover())


def test_the_stream_of_a_cutover_is_told_without_a_way_back() -> None:
    """Before the move the new side follows; there is nothing to go back to yet."""
    name = stream_name(Identity(system_identifier=examples.SYSTEMS[NEW], database="statehub", database_oid=16384))
    forward = examples.observation(
        list(examples.before_cutover()),
        known(f"{OLD}.slots", [SLOT | {"name": name}]),
        known(f"{NEW}.slots", []),
        known(f"{NEW}.subscriptions", [SUBSCRIPTION | {"name": name, "slot": name}]),
        known(f"{OLD}.subscriptions", []),
    )
    (told,) = told_streams(document(), forward)
    assert f"{NEW} follows {OLD}, 0.2 MB behind, slot retains 12 MB of WAL (limit 8 GB)" == told
    (doubted,) = told_streams(document(), examples.observation(list(forward), known(f"{OLD}.unpublished", ["a.b"])))
    assert (
        f"{told}, NOT LOSSLESS: 1 table of {OLD} is not in the stream: a.b; `refresh` takes in what both sides have"
        == doubted
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 MB"),
        (200_000, "0.2 MB"),
        (12 * MB, "12 MB"),
        (1536 * MB, "1.5 GB"),
        (80 * GB, "80 GB"),
        (2048 * GB, "2 TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """In the units that plans are written in."""
    assert text == size_text(size)
