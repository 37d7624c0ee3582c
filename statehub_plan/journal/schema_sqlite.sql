CREATE TABLE head (single INTEGER PRIMARY KEY CHECK (single = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
INSERT INTO head VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE record (
  seq INTEGER PRIMARY KEY, service TEXT NOT NULL, plan_name TEXT NOT NULL, run TEXT NOT NULL, epoch INTEGER NOT NULL,
  at TEXT NOT NULL, kind TEXT NOT NULL, step TEXT, payload TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TABLE lease (
  service TEXT PRIMARY KEY, holder TEXT NOT NULL, host TEXT, pid INTEGER, epoch INTEGER NOT NULL,
  acquired_at TEXT NOT NULL, heartbeat_at TEXT NOT NULL, expires_at TEXT NOT NULL, released INTEGER NOT NULL
) STRICT;
-- BEFORE INSERT also stands in the way of INSERT OR REPLACE, which deletes without firing delete triggers.
CREATE TRIGGER record_follows BEFORE INSERT ON record
  WHEN NOT EXISTS (SELECT 1 FROM head WHERE NEW.seq = head.seq + 1 AND NEW.prev = head.hash)
  BEGIN SELECT RAISE(ABORT, 'a record can only follow the newest one'); END;
CREATE TRIGGER record_stays BEFORE UPDATE ON record
  BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;
CREATE TRIGGER record_remains BEFORE DELETE ON record
  BEGIN SELECT RAISE(ABORT, 'records are never deleted'); END;
CREATE TRIGGER head_advances BEFORE UPDATE ON head
  WHEN NEW.seq <> OLD.seq + 1 OR NOT EXISTS (SELECT 1 FROM record WHERE seq = NEW.seq AND hash = NEW.hash)
  BEGIN SELECT RAISE(ABORT, 'the head only moves to the next record'); END;
CREATE TRIGGER head_remains BEFORE DELETE ON head
  BEGIN SELECT RAISE(ABORT, 'the head is never deleted'); END;
CREATE TRIGGER lease_advances BEFORE UPDATE ON lease WHEN NEW.epoch < OLD.epoch OR NEW.service <> OLD.service
  BEGIN SELECT RAISE(ABORT, 'an epoch never goes back'); END;
CREATE TRIGGER lease_remains BEFORE DELETE ON lease
  BEGIN SELECT RAISE(ABORT, 'leases are never deleted'); END;
