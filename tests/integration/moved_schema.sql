-- One of everything that a move has got wrong somewhere before. Roles mover_app and mover_owner exist on both servers.
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE SCHEMA hub;
CREATE SCHEMA "Odd ""Schema.x";
COMMENT ON SCHEMA hub IS 'what the team remembers';

CREATE TYPE hub.mood AS ENUM ('sad', 'ok', 'it''s, "fine"');
ALTER TYPE hub.mood ADD VALUE 'first' BEFORE 'sad';
CREATE DOMAIN hub.short AS text COLLATE "C" CHECK (length(VALUE) < 40);
CREATE DOMAIN hub.padded AS char(6);
CREATE TYPE hub.pair AS (a integer, b hub.mood);
CREATE TYPE hub.span AS RANGE (SUBTYPE = double precision);
CREATE SEQUENCE hub.ticket AS smallint INCREMENT BY -3 MAXVALUE 100 MINVALUE -100 START 99 CYCLE;
CREATE SEQUENCE hub.untouched START 41;
CREATE SEQUENCE hub.exhausted MAXVALUE 3;
CREATE SEQUENCE hub.set_not_called;

CREATE FUNCTION hub.tidy(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(value) $$;
CREATE FUNCTION hub.boom() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
--
-- Name: not_an_entry; Type: TABLE; Schema: hub; Owner: nobody
--
    RAISE EXCEPTION 'a trigger fired while copying';
END
$function$;
CREATE PROCEDURE hub.nothing() LANGUAGE sql AS '';
CREATE AGGREGATE hub.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');

CREATE TABLE hub.team (
    id integer GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 10) PRIMARY KEY,
    name citext NOT NULL UNIQUE,
    lead_id bigint,
    "Mixed Case; ""quoted"".name" text DEFAULT 'x''y'
);
CREATE TABLE hub.person (
    id bigserial PRIMARY KEY,
    team_id integer REFERENCES hub.team DEFERRABLE INITIALLY DEFERRED,
    email hub.short NOT NULL,
    tidy_email text GENERATED ALWAYS AS (hub.tidy(email)) STORED,
    feels hub.mood DEFAULT 'ok',
    moods hub.mood[],
    pair hub.pair,
    CONSTRAINT email_is_one CHECK (email LIKE '%@%')
);
ALTER TABLE hub.team ADD FOREIGN KEY (lead_id) REFERENCES hub.person ON DELETE SET NULL;
ALTER TABLE hub.person ADD CONSTRAINT not_checked CHECK (id > 0) NOT VALID;
CREATE INDEX person_partial ON hub.person USING btree (hub.tidy(email), team_id DESC NULLS LAST) WHERE team_id > 5;

CREATE TABLE hub.every_type (
    id uuid PRIMARY KEY,
    b boolean, i2 smallint, i4 integer, i8 bigint, n numeric, n2 numeric(20, 6), f4 real, f8 double precision, m money,
    t text, v varchar(9), c char(5), p hub.padded, q "char", nm name, by bytea, d date, ts timestamp, tz timestamptz,
    tm time, tmz timetz, iv interval, j json, jb jsonb, bi bit(7), vb varbit, ine inet, ci cidr, mac macaddr,
    pt point, bx box, pol polygon, tv tsvector, tq tsquery, ia integer[], ta text[], rg int4range, tr tstzrange,
    mr int4multirange, sp hub.span, h hstore, r regclass, ty regtype, lsn pg_lsn
);

CREATE TABLE hub.measured (at timestamptz NOT NULL, device integer NOT NULL, value numeric, PRIMARY KEY (at, device))
    PARTITION BY RANGE (at);
CREATE TABLE hub.measured_2024 PARTITION OF hub.measured FOR VALUES FROM ('2024-01-01 00:00Z') TO ('2025-01-01 00:00Z')
    PARTITION BY LIST (device);
CREATE TABLE hub.measured_2024_1 PARTITION OF hub.measured_2024 FOR VALUES IN (1);
CREATE TABLE hub.measured_2024_rest PARTITION OF hub.measured_2024 DEFAULT;
CREATE TABLE hub.measured_rest PARTITION OF hub.measured DEFAULT;
CREATE INDEX ON hub.measured (value);
CREATE TABLE hub.remark (at timestamptz, device integer, text text, FOREIGN KEY (at, device) REFERENCES hub.measured)
    PARTITION BY HASH (device);
CREATE TABLE hub.remark_0 PARTITION OF hub.remark FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hub.remark_1 PARTITION OF hub.remark FOR VALUES WITH (MODULUS 2, REMAINDER 1);

CREATE TABLE hub.parent (a integer, note text);
CREATE TABLE hub.child (b integer) INHERITS (hub.parent);
CREATE UNLOGGED TABLE hub.cache (key text PRIMARY KEY, value text) WITH (fillfactor = 70);
CREATE TABLE hub.no_columns ();
CREATE TABLE hub.no_key (a integer, b text);
ALTER TABLE hub.no_key REPLICA IDENTITY FULL;
CREATE TABLE hub.booking (room integer, during tstzrange, EXCLUDE USING gist (during WITH &&) WHERE (room = 1));
CREATE TABLE "Odd ""Schema.x"."Table; DROP" ("Id" integer PRIMARY KEY, "a,b" text);
CREATE TABLE hub.dropped_column (a integer, gone text, z integer, b integer);
ALTER TABLE hub.dropped_column DROP COLUMN gone;
CREATE TABLE hub.empty_one (id integer PRIMARY KEY);

CREATE VIEW hub.leads AS SELECT t.name, p.email FROM hub.team t JOIN hub.person p ON p.id = t.lead_id;
CREATE VIEW hub.people WITH (security_barrier) AS SELECT id, email || ';' AS "e;mail" FROM hub.person WHERE id > 0;
CREATE VIEW hub.counted AS SELECT p.*, count(*) FROM hub.person p GROUP BY p.id;
CREATE RULE no_insert AS ON INSERT TO hub.leads DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW hub.summary AS SELECT team_id, count(*) AS people FROM hub.person GROUP BY team_id;
CREATE UNIQUE INDEX ON hub.summary (team_id);
CREATE MATERIALIZED VIEW hub.never_filled AS SELECT 1 AS one WITH NO DATA;
CREATE FUNCTION hub.people_of(team integer) RETURNS bigint LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT count(*) FROM hub.person WHERE team_id = team; END;
CREATE STATISTICS hub.person_team ON id, team_id FROM hub.person;

GRANT USAGE ON SCHEMA hub TO mover_app;
GRANT SELECT, INSERT, UPDATE ON hub.person TO mover_app;
GRANT SELECT (name), UPDATE ("Mixed Case; ""quoted"".name") ON hub.team TO mover_app;
GRANT ALL ON hub.team TO mover_owner WITH GRANT OPTION;
GRANT USAGE ON SEQUENCE hub.person_id_seq TO mover_app;
REVOKE EXECUTE ON FUNCTION hub.tidy(text) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA hub GRANT SELECT ON TABLES TO mover_app;
ALTER TABLE hub.no_key OWNER TO mover_owner;
ALTER TABLE hub.person ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON hub.person FOR SELECT TO mover_app USING (email = CURRENT_USER::text || '@hub');
CREATE TRIGGER boom BEFORE INSERT OR UPDATE ON hub.person FOR EACH ROW EXECUTE FUNCTION hub.boom();
CREATE TRIGGER quiet AFTER DELETE ON hub.person FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION hub.boom();
ALTER TABLE hub.person DISABLE TRIGGER boom;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON hub.team DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION hub.boom();
CREATE PUBLICATION people FOR TABLE hub.person;
COMMENT ON TABLE hub.person IS 'one''s people';
COMMENT ON COLUMN hub.person.email IS E'with a\nline break and -- a comment';
COMMENT ON CONSTRAINT email_is_one ON hub.person IS 'constraint';
COMMENT ON INDEX hub.person_partial IS 'index';

INSERT INTO hub.team (name) SELECT 'Team ' || n FROM generate_series(1, 50) n;
INSERT INTO hub.person (team_id, email, feels, moods, pair)
    SELECT 10 + 10 * (n % 50), 'Person' || n || '@hub', 'it''s, "fine"', ARRAY['sad', 'ok', NULL]::hub.mood[],
           ROW (n, 'ok')::hub.pair FROM generate_series(1, 2000) n;
UPDATE hub.team SET lead_id = id / 10;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE hub.person ENABLE TRIGGER boom;
INSERT INTO hub.every_type VALUES
    ('00000000-0000-0000-0000-000000000001', true, -32768, 2147483647, 9223372036854775807, 'NaN', 1.5, 'NaN',
     '-0', '-12.34', E'tab\tback\\slash \u00fc', 'v', 'ab', 'ab', 'q', 'nm', '\x00ff5c', 'infinity', '-infinity',
     '2024-02-29 12:00:00.123456+05', '24:00', '01:02:03.4+05:30', '1 year 2 mons -3 days 04:05:06.7', '{"b": 1,  "a":1.0}',
     '{"b": 1, "a": 1.00}', B'1010101', B'', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03',
     '(1,-0)', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', 'a:1A fat:2 cat', 'a & !b', '{{1,NULL},{3,4}}', '{"", NULL, "NULL"}',
     '[1,5)', '[2024-01-01 00:00Z,)', '{[1,3),[5,9)}', '[1.5,2.5)', 'a=>1, b=>NULL', 'hub.person', 'hub.mood', '16/B374D848'),
    ('00000000-0000-0000-0000-000000000002', NULL, 0, 0, 0, 1.00, 1.0, '-infinity', '1e-300', 0, '', '', '', '', '', '', '',
     '4713-01-01 BC', '0001-01-01', 'infinity', '00:00', '00:00+00', '00:00', 'null', 'null', B'0000000', B'1', '::1',
     '::/0', '00:00:00:00:00:00', '(NaN,1)', '((0,0),(0,0))', '((0,0))', '', '', '{}', '{}', 'empty', '(,)', '{}', '(,)', '',
     'pg_class', 'integer', '0/0');
INSERT INTO hub.every_type (id) VALUES ('00000000-0000-0000-0000-000000000003');
INSERT INTO hub.measured SELECT timestamptz '2024-06-01 00:00Z' + n * interval '1 day', n % 3, n / 8.0
    FROM generate_series(1, 400) n;
INSERT INTO hub.remark SELECT at, device, 'r' FROM hub.measured WHERE device < 2;
INSERT INTO hub.parent SELECT n, 'parent' FROM generate_series(1, 5) n;
INSERT INTO hub.child SELECT n, 'child', n FROM generate_series(1, 7) n;
INSERT INTO hub.cache SELECT n::text, repeat('z', n) FROM generate_series(1, 30) n;
INSERT INTO hub.no_columns SELECT FROM generate_series(1, 4);
INSERT INTO hub.no_key VALUES (1, NULL), (1, NULL), (1, ''), (NULL, 'null'), (2, '\N'), (3, E'\\.\n');
INSERT INTO hub.booking VALUES (1, '[2024-01-01 00:00Z,2024-01-02 00:00Z)'), (2, '[2024-01-01 00:00Z,2024-01-05 00:00Z)');
INSERT INTO "Odd ""Schema.x"."Table; DROP" VALUES (1, ','), (2, NULL);
INSERT INTO hub.dropped_column VALUES (1, 2, 3);
SELECT nextval('hub.ticket'), nextval('hub.ticket'), nextval('hub.exhausted'), nextval('hub.exhausted'),
       nextval('hub.exhausted'), setval('hub.set_not_called', 77, false);
REFRESH MATERIALIZED VIEW hub.summary;
