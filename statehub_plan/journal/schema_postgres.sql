CREATE SCHEMA IF NOT EXISTS statehub_plan_journal;

CREATE TABLE statehub_plan_journal.meta (
  single boolean PRIMARY KEY DEFAULT true CHECK (single), version integer NOT NULL
);
INSERT INTO statehub_plan_journal.meta (version) VALUES (1);

CREATE TABLE statehub_plan_journal.head (
  single boolean PRIMARY KEY DEFAULT true CHECK (single), seq bigint NOT NULL, hash text NOT NULL
);
INSERT INTO statehub_plan_journal.head (seq, hash) VALUES (0, repeat('0', 64));

-- Instants and payloads as text: the hash covers exactly these characters, and jsonb would rewrite them.
CREATE TABLE statehub_plan_journal.record (
  seq bigint PRIMARY KEY, service text NOT NULL, plan_name text NOT NULL, run text NOT NULL, epoch bigint NOT NULL,
  at text NOT NULL, kind text NOT NULL, step text, payload text NOT NULL, prev text NOT NULL, hash text NOT NULL
);

CREATE TABLE statehub_plan_journal.lease (
  service text PRIMARY KEY, holder text NOT NULL, host text, pid integer, epoch bigint NOT NULL,
  acquired_at timestamptz NOT NULL, heartbeat_at timestamptz NOT NULL, expires_at timestamptz NOT NULL,
  released boolean NOT NULL
);

CREATE FUNCTION statehub_plan_journal.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'statehub_plan_journal.% is append-only: % refused', TG_TABLE_NAME, TG_OP;
END $$;

CREATE FUNCTION statehub_plan_journal.only_forward() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  IF TG_TABLE_NAME = 'record' THEN
    IF NOT EXISTS (SELECT FROM statehub_plan_journal.head h WHERE NEW.seq = h.seq + 1 AND NEW.prev = h.hash) THEN
      RAISE EXCEPTION 'a record can only follow the newest one';
    END IF;
  ELSIF TG_TABLE_NAME = 'head' THEN
    IF NEW.seq <> OLD.seq + 1 OR NOT EXISTS (
        SELECT FROM statehub_plan_journal.record r WHERE r.seq = NEW.seq AND r.hash = NEW.hash) THEN
      RAISE EXCEPTION 'the head only moves to the next record';
    END IF;
  ELSIF NEW.epoch < OLD.epoch OR NEW.service <> OLD.service THEN
    RAISE EXCEPTION 'an epoch never goes back';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER record_follows BEFORE INSERT ON statehub_plan_journal.record
  FOR EACH ROW EXECUTE FUNCTION statehub_plan_journal.only_forward();
CREATE TRIGGER record_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON statehub_plan_journal.record
  FOR EACH STATEMENT EXECUTE FUNCTION statehub_plan_journal.refuse();
CREATE TRIGGER head_advances BEFORE UPDATE ON statehub_plan_journal.head
  FOR EACH ROW EXECUTE FUNCTION statehub_plan_journal.only_forward();
CREATE TRIGGER head_remains BEFORE DELETE OR TRUNCATE ON statehub_plan_journal.head
  FOR EACH STATEMENT EXECUTE FUNCTION statehub_plan_journal.refuse();
CREATE TRIGGER lease_advances BEFORE UPDATE ON statehub_plan_journal.lease
  FOR EACH ROW EXECUTE FUNCTION statehub_plan_journal.only_forward();
CREATE TRIGGER lease_remains BEFORE DELETE OR TRUNCATE ON statehub_plan_journal.lease
  FOR EACH STATEMENT EXECUTE FUNCTION statehub_plan_journal.refuse();
