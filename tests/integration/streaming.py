"""Real streams between two databases, in either direction, and both ends observed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from statehub_plan.demo.cluster import Cluster
from statehub_plan.model.facts import Observation
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.model.stream import Stream, StreamState, stream_name
from statehub_plan.observe import observe
from statehub_plan.postgres import replication, state
from statehub_plan.postgres.connect import Connection, connect, user_tables
from statehub_plan.streams import stream_between
from tests.integration.observing import endpoint, now, plan_of
from tests.integration.served_database import eventually

DISK = "85899345920"


@dataclass(frozen=True)
class Ends:
    """Superusers' DSNs of two databases with one table each, and the plan's names of them."""

    receiver_dsn: str
    sender_dsn: str
    receiver: str
    sender: str
    plan: CutoverPlan
    directory: Path

    @contextmanager
    def receiving(self) -> Iterator[Connection]:
        """A session of the tool at the receiver."""
        with closing(connect(self.receiver_dsn, purpose="test")) as session:
            yield session

    @contextmanager
    def sending(self) -> Iterator[Connection]:
        """A session of the tool at the sender."""
        with closing(connect(self.sender_dsn, purpose="test")) as session:
            yield session

    def name(self) -> str:
        """What slot and subscription are called."""
        with self.receiving() as session:
            return stream_name(state.identity(session))

    def publish(self) -> None:
        """The sender's table is published."""
        with self.sending() as session:
            replication.publish(session, user_tables(session))

    def make_slot(self) -> None:
        """The slot, and what it needs to be one."""
        self.publish()
        replication.create_slot(self.sender_dsn, self.name()).close()

    def subscribe(self, *, enabled: bool, copy_data: bool = False) -> None:
        """The subscription on that slot."""
        with self.receiving() as session:
            replication.create_subscription(
                session,
                name=self.name(),
                publisher=self.sender_dsn,
                slot=self.name(),
                enabled=enabled,
                copy_data=copy_data,
            )

    def unsubscribe(self) -> None:
        """No subscription is left, so that nobody takes the slot again while its database is dropped."""
        with self.receiving() as session:
            replication.drop_subscription(session, self.name())

    def write(self, *, rows: int = 1) -> None:
        """Rows on the sender, as anybody writes them."""
        with psycopg.connect(self.sender_dsn, autocommit=True) as session:
            session.execute("INSERT INTO public.t (note) SELECT 'row' FROM generate_series(1, %s)", [rows])

    def count(self) -> int:
        """Rows that the receiver has."""
        with psycopg.connect(self.receiver_dsn) as session:
            row = session.execute("SELECT count(*) FROM public.t").fetchone()
            return 0 if row is None else int(row[0])

    def observe(self, *, deep: bool = True) -> Observation:
        """Both ends, now."""
        return observe(self.plan, self.directory, now=now, timeout_s=30, deep=deep)

    def stream(self) -> Stream:
        """Where the stream stands, now."""
        return stream_between(self.observe(deep=False), self.receiver, self.sender)

    def becomes(self, wanted: StreamState) -> Stream:
        """Waits for a state; a test fails with the last one seen otherwise."""
        seen: list[Stream] = []

        def there() -> bool:
            seen.append(self.stream())
            return seen[-1].state is wanted

        assert eventually(there), seen[-1]
        return seen[-1]


def promote(cluster: Cluster) -> None:
    """A stopped cluster runs again as a standby of its data would that was promoted."""
    (cluster.data_dir / "standby.signal").touch()
    cluster.start()
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        assert (True,) == admin.execute("SELECT pg_promote()").fetchone()


def ends(directory: Path, old_dsn: str, new_dsn: str, *, into: str = "old", **spec: Any) -> Ends:
    """Two databases with the tool's schema and one table, for a stream into one of them. Both servers start workers
    again at once, for as long as they live."""
    for dsn in (old_dsn, new_dsn):
        with closing(connect(dsn, purpose="test")) as session:
            session.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
            session.execute("SELECT pg_reload_conf()")
            state.install(session)
            session.execute("CREATE TABLE public.t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text)")
    declared = {name: endpoint(directory, name, dsn) for name, dsn in (("old", old_dsn), ("new", new_dsn))}
    for one in declared.values():
        one["database"]["diskFree"] = ["printf", DISK]
    fallback = {"endpoint": "old", "mode": "following"}
    plan = plan_of(
        declared["old"],
        declared["new"],
        **({"transfer": {"method": "replication"}, "desired": {"primary": "new", "fallback": fallback}} | spec),
    )
    dsns = {"old": old_dsn, "new": new_dsn}
    sender = "new" if into == "old" else "old"
    return Ends(dsns[into], dsns[sender], into, sender, plan, directory)
