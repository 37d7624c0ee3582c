"""A source that is written to all the time, a target that is filled from it, and whether both end up the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Self

import psycopg

from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fill import Followed, fill_and_follow
from statehub_plan.postgres.following import Stream, await_barrier
from statehub_plan.postgres.replication import stream_name
from statehub_plan.postgres.sequences import sync_sequences
from statehub_plan.postgres.state import identity
from tests.integration.moving import EPOCH, prepare, run_script

SCHEMA = """
CREATE TABLE public.account (id bigint PRIMARY KEY, owner text NOT NULL UNIQUE, balance numeric NOT NULL DEFAULT 0);
CREATE TABLE public.entry (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES public.account,
                           amount numeric NOT NULL, note text);
CREATE INDEX ON public.entry (account_id);
CREATE TABLE public.by_index (code text NOT NULL, n integer);
CREATE UNIQUE INDEX by_index_code ON public.by_index (code);
ALTER TABLE public.by_index REPLICA IDENTITY USING INDEX by_index_code;
CREATE TABLE public.by_row (a integer, b text);
ALTER TABLE public.by_row REPLICA IDENTITY FULL;
CREATE TABLE public.swept (id integer PRIMARY KEY, text text);
CREATE TABLE public.event (at date NOT NULL, id integer NOT NULL, what text, PRIMARY KEY (at, id))
    PARTITION BY RANGE (at);
CREATE TABLE public.event_old PARTITION OF public.event FOR VALUES FROM ('2020-01-01') TO ('2026-01-01');
CREATE TABLE public.event_new PARTITION OF public.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE UNLOGGED TABLE public.cache (key text PRIMARY KEY);
CREATE VIEW public.rich AS SELECT id, owner FROM public.account WHERE balance > 0;
CREATE MATERIALIZED VIEW public.codes AS SELECT 1 AS one;
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.note := coalesce(NEW.note, '') || '.'; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT ON public.entry FOR EACH ROW EXECUTE FUNCTION public.touch();
INSERT INTO public.account SELECT n, 'owner ' || n, n FROM generate_series(1, 200) n;
INSERT INTO public.entry (account_id, amount, note)
    SELECT 1 + n % 200, n, repeat('x', 100) FROM generate_series(1, 20000) n;
INSERT INTO public.by_index SELECT 'code ' || n, n FROM generate_series(1, 500) n;
INSERT INTO public.by_row SELECT n % 50, 'b' FROM generate_series(1, 100) n;
INSERT INTO public.swept SELECT n, 's' FROM generate_series(1, 100) n;
INSERT INTO public.event SELECT date '2025-12-01' + n % 60, n, 'what' FROM generate_series(1, 3000) n;
INSERT INTO public.cache SELECT n::text FROM generate_series(1, 100) n;
"""

_ACTIONS = (
    "INSERT INTO public.entry (account_id, amount) SELECT 1 + (random() * 199)::int, 1 FROM generate_series(1, 3)",
    "UPDATE public.entry SET amount = amount + 1 WHERE id = (random() * 20000)::int",
    "DELETE FROM public.entry WHERE id = (random() * 20000)::int",
    "UPDATE public.account SET balance = balance + 1 WHERE id = 1 + (random() * 199)::int",
    "INSERT INTO public.by_index VALUES (gen_random_uuid(), 1)",
    "UPDATE public.by_index SET n = n + 1 WHERE code = 'code ' || (random() * 500)::int",
    "DELETE FROM public.by_index WHERE code = 'code ' || (random() * 500)::int",
    "INSERT INTO public.by_row VALUES ((random() * 50)::int, 'new')",
    "UPDATE public.by_row SET b = b || '!' WHERE a = (random() * 50)::int AND length(b) < 9",
    "DELETE FROM public.by_row WHERE ctid = (SELECT min(ctid) FROM public.by_row)",
    "TRUNCATE public.swept",
    "INSERT INTO public.swept SELECT n, 'again' FROM generate_series(1, 9) n ON CONFLICT (id) DO UPDATE SET text = 'k'",
    "INSERT INTO public.event SELECT date '2025-12-30' + n, (random() * 1e9)::int, 'w' FROM generate_series(1, 4) n "
    "ON CONFLICT DO NOTHING",
    "UPDATE public.event SET at = date '2026-01-15' WHERE at = date '2025-12-31' AND id % 7 = (random() * 6)::int "
    "AND NOT EXISTS (SELECT FROM public.event e WHERE e.at = date '2026-01-15' AND e.id = event.id)",
)


class Writer:
    """Someone who writes into every table of `SCHEMA`, again and again, until told to stop."""

    def __init__(self, dsn: str) -> None:
        """Begins at once."""
        self.written = 0
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        chance = random.Random(7)
        while not self._stop.is_set():
            try:
                with closing(psycopg.connect(self._dsn, autocommit=True)) as connection:
                    while not self._stop.is_set():
                        with connection.transaction():
                            for action in chance.sample(_ACTIONS, 3):
                                connection.execute(action.encode())
                        self.written += 1
                        self._stop.wait(0.004)
            except psycopg.OperationalError:
                self._stop.wait(0.05)  # its server is being restarted

    def __enter__(self) -> Self:
        """Writing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Silent."""
        self.stop()

    def stop(self) -> None:
        """Writes no more from now on."""
        self._stop.set()
        self._thread.join(30)


def source_and_target(source_dsn: str, target_dsn: str, directory: Path) -> None:
    """`SCHEMA` with rows in the source, bare and fenced in the target."""
    run_script(source_dsn, SCHEMA)
    prepare(source_dsn, target_dsn, directory)


def fill(source_dsn: str, target_dsn: str, **options: object) -> Followed:
    """A fill in this process."""
    arguments: dict[str, object] = {"epoch": EPOCH, "publisher": source_dsn, "timeout_s": 60.0, **options}
    return fill_and_follow(source_dsn, target_dsn, **arguments)  # type: ignore[arg-type]


def killed(source_dsn: str, target_dsn: str, function: str, event: str, nth: int = 1, *, publisher: str = "") -> None:
    """A fill in a process of its own that has died exactly there: at the nth `call` of, or `return` from, it."""
    fill = {"source_dsn": source_dsn, "target_dsn": target_dsn, "epoch": EPOCH, "publisher": publisher or source_dsn}
    _act_and_die({"die": [function, event, nth], "fill": fill})


def killed_stopping(source_dsn: str, target_dsn: str, function: str, event: str) -> None:
    """Somebody who takes the stream down, and dies there."""
    stop = {"receiver_dsn": target_dsn, "sender_dsn": source_dsn, "epoch": EPOCH}
    _act_and_die({"die": [function, event, 1], "stop": stop})


def _act_and_die(order: dict[str, object]) -> None:
    actor = Path(__file__).with_name("fill_actor.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(actor), json.dumps(order)], env=environment, capture_output=True, timeout=300, check=False
    )
    assert -signal.SIGKILL == done.returncode, f"{order['die']} was not reached: {done.stderr.decode()[-2000:]}"


def drain(source_dsn: str, target_dsn: str) -> None:
    """Blocks until the target has everything that the source has."""
    with connect(source_dsn, purpose="test") as source, connect(target_dsn, purpose="test") as target:
        await_barrier(Stream(stream_name(identity(target)), source, target, 60.0))


def assert_same(source_dsn: str, target_dsn: str) -> None:
    """Nothing is missing, nothing is there twice, nothing differs; nobody writes any more."""
    drain(source_dsn, target_dsn)
    with connect(source_dsn, purpose="test") as source, connect(target_dsn, purpose="test") as target:
        sync_sequences(source, target, epoch=EPOCH)
    found = compare(source_dsn, target_dsn)
    assert (Answer.EQUAL, (), ()) == (found.answer, found.differences, found.unknown)


def files_of(dsn: str, tables: frozenset[tuple[str, str]]) -> dict[str, object]:
    """The file that each table is in: another one after TRUNCATE. Without the one that the writer truncates."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT n.nspname, c.relname, pg_relation_filenode(c.oid) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace"
        )
        return {name: file for schema, name, file in rows if (schema, name) in tables and name != "swept"}
