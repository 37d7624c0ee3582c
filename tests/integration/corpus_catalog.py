"""Single changes of catalogs: what is made on both sides, what is done to the target, what must be reported.

`{i}` is the number of the replica, `{n}` a number and `{w}` a word drawn from the seed. Everything lives in schemas
`s{i}`, so that replicas do not meet.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One change: `expected` lines are `kind object: aspect`."""

    name: str
    made: str
    done: str
    expected: tuple[str, ...]

    def replica(self, number: int, chance: random.Random) -> Change:
        """This change once more, under names of its own."""
        words = {"i": str(number), "n": str(chance.randint(2, 9999)), "w": f"w{chance.getrandbits(40):x}"}
        texts = [self.made, self.done, *self.expected]
        for key, word in words.items():
            texts = [text.replace("{" + key + "}", word) for text in texts]
        return Change(f"{self.name} {number}", texts[0], texts[1], tuple(texts[2:]))


def _table(name: str, columns: str = "a integer PRIMARY KEY, b text, c numeric(9,2)") -> str:
    return f"CREATE TABLE s{{i}}.{name} ({columns})"


_FUNCTION = "CREATE FUNCTION s{i}.%s(x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT x + {n}'"
_SILENCE = (
    "UPDATE pg_trigger SET tgenabled = '{1}' WHERE tgrelid = 's{{i}}.t_fk2'::regclass AND tgisinternal "
    "AND tgconstraint = (SELECT oid FROM pg_constraint WHERE conname = '{0}' AND conrelid = tgrelid)"
)
_TRIGGER_FUNCTION = "CREATE FUNCTION s{i}.%s() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"

CHANGES: tuple[Change, ...] = (
    Change(
        "schema owner",
        "CREATE SCHEMA s{i}_own",
        "ALTER SCHEMA s{i}_own OWNER TO mover_owner",
        ("schema s{i}_own: owner", "schema s{i}_own: privileges"),
    ),
    Change(
        "schema grant",
        "CREATE SCHEMA s{i}_grant",
        "GRANT CREATE ON SCHEMA s{i}_grant TO mover_app",
        ("schema s{i}_grant: privileges",),
    ),
    Change("schema missing", "CREATE SCHEMA s{i}_gone", "DROP SCHEMA s{i}_gone", ("schema s{i}_gone: missing",)),
    Change("table missing", _table("t_gone"), "DROP TABLE s{i}.t_gone", ("relation s{i}.t_gone: missing",)),
    Change("table extra", "SELECT 1", _table("t_extra"), ("relation s{i}.t_extra: extra",)),
    Change(
        "table owner",
        _table("t_own"),
        "ALTER TABLE s{i}.t_own OWNER TO mover_owner",
        ("relation s{i}.t_own: owner", "relation s{i}.t_own: privileges"),
    ),
    Change(
        "table grant",
        _table("t_grant"),
        "GRANT TRIGGER ON s{i}.t_grant TO mover_app WITH GRANT OPTION",
        ("relation s{i}.t_grant: privileges",),
    ),
    Change(
        "table option",
        _table("t_option"),
        "ALTER TABLE s{i}.t_option SET (fillfactor = 77)",
        ("relation s{i}.t_option: options",),
    ),
    Change(
        "toast option",
        _table("t_toast"),
        "ALTER TABLE s{i}.t_toast SET (toast.autovacuum_enabled = off)",
        ("relation s{i}.t_toast: toast options",),
    ),
    Change(
        "unlogged",
        _table("t_unlogged"),
        "ALTER TABLE s{i}.t_unlogged SET UNLOGGED",
        ("relation s{i}.t_unlogged: persistence",),
    ),
    Change(
        "row security",
        _table("t_rls"),
        "ALTER TABLE s{i}.t_rls ENABLE ROW LEVEL SECURITY",
        ("relation s{i}.t_rls: row security",),
    ),
    Change(
        "replica identity",
        _table("t_identity"),
        "ALTER TABLE s{i}.t_identity REPLICA IDENTITY FULL",
        ("relation s{i}.t_identity: replica identity",),
    ),
    Change(
        "partition bound",
        _table("t_part", "a integer, b text") + " PARTITION BY RANGE (a); "
        "CREATE TABLE s{i}.t_part_1 PARTITION OF s{i}.t_part FOR VALUES FROM (0) TO (10)",
        "ALTER TABLE s{i}.t_part DETACH PARTITION s{i}.t_part_1; "
        "ALTER TABLE s{i}.t_part ATTACH PARTITION s{i}.t_part_1 FOR VALUES FROM (0) TO (1{n})",
        ("relation s{i}.t_part_1: partition bound",),
    ),
    Change(
        "inheritance",
        _table("t_parent", "a integer") + "; CREATE TABLE s{i}.t_child () INHERITS (s{i}.t_parent)",
        "ALTER TABLE s{i}.t_child NO INHERIT s{i}.t_parent",
        ("relation s{i}.t_child: parents", "column s{i}.t_child.a: local"),
    ),
    Change(
        "disabled foreign key",
        _table("t_fk_to") + "; " + _table("t_fk", "a integer REFERENCES s{i}.t_fk_to"),
        "ALTER TABLE s{i}.t_fk DISABLE TRIGGER ALL",
        ("relation s{i}.t_fk: silenced constraint triggers",),
    ),
    Change(
        "another foreign key disabled",
        _table("t_fk_to2")
        + "; "
        + _table(
            "t_fk2",
            "a integer CONSTRAINT f1 REFERENCES s{i}.t_fk_to2, b integer CONSTRAINT f2 REFERENCES s{i}.t_fk_to2",
        )
        + "; "
        + _SILENCE.format("f1", "D"),
        _SILENCE.format("f1", "O") + "; " + _SILENCE.format("f2", "D"),
        ("relation s{i}.t_fk2: silenced constraint triggers",),
    ),
    Change(
        "foreign key always instead of disabled",
        _table("t_fk_to3")
        + "; "
        + _table(
            "t_fk2b",
            "a integer CONSTRAINT f1 REFERENCES s{i}.t_fk_to3, b integer CONSTRAINT f2 REFERENCES s{i}.t_fk_to3",
        )
        + "; "
        + _SILENCE.format("f1", "D").replace("fk2", "fk2b"),
        _SILENCE.format("f1", "A").replace("fk2", "fk2b"),
        ("relation s{i}.t_fk2b: silenced constraint triggers",),
    ),
    Change(
        "column type",
        _table("c_type"),
        "ALTER TABLE s{i}.c_type ALTER c TYPE numeric(10,2)",
        ("column s{i}.c_type.c: type",),
    ),
    Change(
        "column collation",
        _table("c_coll"),
        'ALTER TABLE s{i}.c_coll ALTER b TYPE text COLLATE "C"',
        ("column s{i}.c_coll.b: collation",),
    ),
    Change(
        "column null",
        _table("c_null"),
        "ALTER TABLE s{i}.c_null ALTER b SET NOT NULL",
        ("column s{i}.c_null.b: not null",),
    ),
    Change(
        "column default",
        _table("c_default"),
        "ALTER TABLE s{i}.c_default ALTER b SET DEFAULT '{w}'",
        ("column s{i}.c_default.b: default",),
    ),
    Change(
        "column identity",
        _table("c_ident"),
        "ALTER TABLE s{i}.c_ident ALTER a ADD GENERATED ALWAYS AS IDENTITY",
        ("column s{i}.c_ident.a: identity", "sequence s{i}.c_ident_a_seq: extra"),
    ),
    Change(
        "column generated",
        _table("c_gen", "a integer, g integer GENERATED ALWAYS AS (a + {n}) STORED"),
        "ALTER TABLE s{i}.c_gen ALTER g DROP EXPRESSION",
        ("column s{i}.c_gen.g: generated", "column s{i}.c_gen.g: default"),
    ),
    Change(
        "column extra",
        _table("c_extra"),
        "ALTER TABLE s{i}.c_extra ADD {w} integer",
        ("column s{i}.c_extra.{w}: extra",),
    ),
    Change("column missing", _table("c_gone"), "ALTER TABLE s{i}.c_gone DROP c", ("column s{i}.c_gone.c: missing",)),
    Change(
        "column storage",
        _table("c_store"),
        "ALTER TABLE s{i}.c_store ALTER b SET STORAGE EXTERNAL",
        ("column s{i}.c_store.b: storage",),
    ),
    Change(
        "column statistics",
        _table("c_stat"),
        "ALTER TABLE s{i}.c_stat ALTER b SET STATISTICS 77",
        ("column s{i}.c_stat.b: statistics target",),
    ),
    Change(
        "column option",
        _table("c_opt"),
        "ALTER TABLE s{i}.c_opt ALTER b SET (n_distinct = {n})",
        ("column s{i}.c_opt.b: options",),
    ),
    Change(
        "column grant",
        _table("c_grant"),
        "GRANT SELECT (b) ON s{i}.c_grant TO mover_app",
        ("column s{i}.c_grant.b: privileges",),
    ),
    Change(
        "system column grant",
        _table("c_system"),
        "GRANT SELECT (xmin) ON s{i}.c_system TO mover_app",
        ("column s{i}.c_system.xmin: extra",),
    ),
    Change(
        "check constraint",
        _table("k_check", "a integer, CONSTRAINT {w} CHECK (a > {n})"),
        "ALTER TABLE s{i}.k_check DROP CONSTRAINT {w}, ADD CONSTRAINT {w} CHECK (a >= {n})",
        ("constraint s{i}.k_check.{w}: definition",),
    ),
    Change(
        "constraint missing",
        _table("k_gone", "a integer, CONSTRAINT {w} CHECK (a > 0)"),
        "ALTER TABLE s{i}.k_gone DROP CONSTRAINT {w}",
        ("constraint s{i}.k_gone.{w}: missing",),
    ),
    Change(
        "constraint validity",
        _table("k_valid", "a integer") + "; ALTER TABLE s{i}.k_valid ADD CONSTRAINT {w} CHECK (a > 0) NOT VALID",
        "ALTER TABLE s{i}.k_valid VALIDATE CONSTRAINT {w}",
        ("constraint s{i}.k_valid.{w}: validated", "constraint s{i}.k_valid.{w}: definition"),
    ),
    Change(
        "foreign key action",
        _table("k_to") + "; " + _table("k_fk", "a integer CONSTRAINT {w} REFERENCES s{i}.k_to ON DELETE CASCADE"),
        "ALTER TABLE s{i}.k_fk DROP CONSTRAINT {w}, ADD CONSTRAINT {w} FOREIGN KEY (a) REFERENCES s{i}.k_to",
        ("constraint s{i}.k_fk.{w}: definition",),
    ),
    Change(
        "index missing",
        _table("i_gone") + "; CREATE INDEX {w} ON s{i}.i_gone (b)",
        "DROP INDEX s{i}.{w}",
        ("index s{i}.{w}: missing",),
    ),
    Change(
        "index predicate",
        _table("i_where") + "; CREATE INDEX {w} ON s{i}.i_where (b) WHERE a > {n}",
        "DROP INDEX s{i}.{w}; CREATE INDEX {w} ON s{i}.i_where (b) WHERE a > 1{n}",
        ("index s{i}.{w}: definition",),
    ),
    Change(
        "index order",
        _table("i_order") + "; CREATE INDEX {w} ON s{i}.i_order (b, c)",
        "DROP INDEX s{i}.{w}; CREATE INDEX {w} ON s{i}.i_order (c, b)",
        ("index s{i}.{w}: definition",),
    ),
    Change(
        "index invalid",
        _table("i_invalid") + "; CREATE INDEX {w} ON s{i}.i_invalid (b)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 's{i}.{w}'::regclass",
        ("index s{i}.{w}: valid",),
    ),
    Change(
        "sequence increment",
        "CREATE SEQUENCE s{i}.q_step",
        "ALTER SEQUENCE s{i}.q_step INCREMENT {n}",
        ("sequence s{i}.q_step: increment",),
    ),
    Change(
        "sequence value",
        "CREATE SEQUENCE s{i}.q_value START {n}",
        "SELECT nextval('s{i}.q_value')",
        ("sequence s{i}.q_value: value",),
    ),
    Change(
        "sequence owned",
        "CREATE SEQUENCE s{i}.q_owned; " + _table("q_owner"),
        "ALTER SEQUENCE s{i}.q_owned OWNED BY s{i}.q_owner.a",
        ("sequence s{i}.q_owned: owned by",),
    ),
    Change(
        "function body",
        _FUNCTION % "f_body",
        "CREATE OR REPLACE FUNCTION s{i}.f_body(x integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT x - {n}'",
        ("routine s{i}.f_body(x integer): definition",),
    ),
    Change(
        "function volatility",
        _FUNCTION % "f_vol",
        "ALTER FUNCTION s{i}.f_vol VOLATILE",
        ("routine s{i}.f_vol(x integer): definition",),
    ),
    Change(
        "function definer",
        _FUNCTION % "f_def",
        "ALTER FUNCTION s{i}.f_def SECURITY DEFINER SET search_path = s{i}",
        ("routine s{i}.f_def(x integer): definition",),
    ),
    Change(
        "function grant",
        _FUNCTION % "f_grant",
        "REVOKE EXECUTE ON FUNCTION s{i}.f_grant FROM PUBLIC",
        ("routine s{i}.f_grant(x integer): privileges",),
    ),
    Change(
        "procedure missing",
        "CREATE PROCEDURE s{i}.p_gone() LANGUAGE sql AS 'SELECT {n}'",
        "DROP PROCEDURE s{i}.p_gone",
        ("routine s{i}.p_gone(): missing",),
    ),
    Change(
        "aggregate",
        "CREATE AGGREGATE s{i}.agg(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '{n}')",
        "DROP AGGREGATE s{i}.agg(integer); "
        "CREATE AGGREGATE s{i}.agg(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '1{n}')",
        ("routine s{i}.agg(integer): aggregate",),
    ),
    Change(
        "trigger state",
        _table("g_state") + f"; {_TRIGGER_FUNCTION % 'g_fn'}; "
        "CREATE TRIGGER {w} BEFORE INSERT ON s{i}.g_state FOR EACH ROW EXECUTE FUNCTION s{i}.g_fn()",
        "ALTER TABLE s{i}.g_state ENABLE REPLICA TRIGGER {w}",
        ("trigger s{i}.g_state.{w}: enabled",),
    ),
    Change(
        "trigger event",
        _table("g_event") + f"; {_TRIGGER_FUNCTION % 'g_fn2'}; "
        "CREATE TRIGGER {w} BEFORE INSERT ON s{i}.g_event FOR EACH ROW EXECUTE FUNCTION s{i}.g_fn2()",
        "DROP TRIGGER {w} ON s{i}.g_event; "
        "CREATE TRIGGER {w} BEFORE UPDATE ON s{i}.g_event FOR EACH ROW EXECUTE FUNCTION s{i}.g_fn2()",
        ("trigger s{i}.g_event.{w}: definition",),
    ),
    Change(
        "partition's trigger state",
        _table("g_part", "a integer") + f" PARTITION BY LIST (a); {_TRIGGER_FUNCTION % 'g_fn3'}; "
        "CREATE TABLE s{i}.g_part_1 PARTITION OF s{i}.g_part DEFAULT; "
        "CREATE TRIGGER {w} BEFORE INSERT ON s{i}.g_part FOR EACH ROW EXECUTE FUNCTION s{i}.g_fn3()",
        "ALTER TABLE s{i}.g_part_1 DISABLE TRIGGER {w}",
        ("trigger s{i}.g_part_1.{w}: extra",),
    ),
    Change(
        "rule",
        _table("r_rule") + "; CREATE RULE {w} AS ON DELETE TO s{i}.r_rule DO INSTEAD NOTHING",
        "ALTER TABLE s{i}.r_rule DISABLE RULE {w}",
        ("rule s{i}.r_rule.{w}: enabled",),
    ),
    Change(
        "policy",
        _table("p_policy") + "; CREATE POLICY {w} ON s{i}.p_policy USING (a > {n})",
        "ALTER POLICY {w} ON s{i}.p_policy USING (a > 1{n})",
        ("policy s{i}.p_policy.{w}: using",),
    ),
    Change(
        "policy roles",
        _table("p_roles") + "; CREATE POLICY {w} ON s{i}.p_roles TO mover_app USING (true)",
        "ALTER POLICY {w} ON s{i}.p_roles TO PUBLIC",
        ("policy s{i}.p_roles.{w}: roles",),
    ),
    Change(
        "view",
        _table("v_of") + "; CREATE VIEW s{i}.v_view AS SELECT a FROM s{i}.v_of WHERE a > {n}",
        "CREATE OR REPLACE VIEW s{i}.v_view AS SELECT a FROM s{i}.v_of WHERE a > 1{n}",
        ("relation s{i}.v_view: view",),
    ),
    Change(
        "view check option",
        _table("v_of2") + "; CREATE VIEW s{i}.v_check AS SELECT a FROM s{i}.v_of2 WHERE a > 1",
        "ALTER VIEW s{i}.v_check SET (check_option = local)",
        ("relation s{i}.v_check: options",),
    ),
    Change(
        "materialized view",
        "CREATE MATERIALIZED VIEW s{i}.m_view AS SELECT {n} AS n WITH NO DATA",
        "REFRESH MATERIALIZED VIEW s{i}.m_view",
        ("relation s{i}.m_view: populated",),
    ),
    Change(
        "enum label",
        "CREATE TYPE s{i}.e_label AS ENUM ('a', 'b')",
        "ALTER TYPE s{i}.e_label RENAME VALUE 'b' TO '{w}'",
        ("type s{i}.e_label: labels",),
    ),
    Change(
        "enum order",
        "CREATE TYPE s{i}.e_order AS ENUM ('a', 'b', 'c')",
        "DROP TYPE s{i}.e_order; CREATE TYPE s{i}.e_order AS ENUM ('a', 'c', 'b')",
        ("type s{i}.e_order: labels",),
    ),
    Change(
        "domain",
        "CREATE DOMAIN s{i}.d_domain AS text",
        "ALTER DOMAIN s{i}.d_domain SET DEFAULT '{w}'",
        ("type s{i}.d_domain: default",),
    ),
    Change(
        "domain constraint",
        "CREATE DOMAIN s{i}.d_check AS integer CONSTRAINT {w} CHECK (VALUE > 0)",
        "ALTER DOMAIN s{i}.d_check DROP CONSTRAINT {w}",
        ("constraint s{i}.d_check.{w}: missing",),
    ),
    Change(
        "composite type",
        "CREATE TYPE s{i}.y_pair AS (a integer, b text)",
        "ALTER TYPE s{i}.y_pair ALTER ATTRIBUTE b TYPE varchar",
        ("column s{i}.y_pair.b: type",),
    ),
    Change(
        "range type",
        "CREATE TYPE s{i}.y_range AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi)",
        "DROP TYPE s{i}.y_range; CREATE TYPE s{i}.y_range AS RANGE (SUBTYPE = float8)",
        ("type s{i}.y_range: range",),
    ),
    Change(
        "type grant",
        "CREATE TYPE s{i}.y_grant AS ENUM ()",
        "REVOKE USAGE ON TYPE s{i}.y_grant FROM PUBLIC",
        ("type s{i}.y_grant: privileges",),
    ),
    Change(
        "statistics",
        _table("x_of") + "; CREATE STATISTICS s{i}.x_stat (ndistinct) ON a, b FROM s{i}.x_of",
        "DROP STATISTICS s{i}.x_stat; CREATE STATISTICS s{i}.x_stat (dependencies) ON a, b FROM s{i}.x_of",
        ("statistics s{i}.x_stat: kinds",),
    ),
    Change(
        "collation",
        "CREATE COLLATION s{i}.z_coll (LC_COLLATE = 'C', LC_CTYPE = 'C')",
        "DROP COLLATION s{i}.z_coll; CREATE COLLATION s{i}.z_coll (LC_COLLATE = 'C', LC_CTYPE = 'POSIX')",
        ("collation s{i}.z_coll: character type",),
    ),
    Change(
        "operator",
        "CREATE OPERATOR s{i}.=== (FUNCTION = int4eq, LEFTARG = integer, RIGHTARG = integer)",
        "DROP OPERATOR s{i}.=== (integer, integer); "
        "CREATE OPERATOR s{i}.=== (FUNCTION = int4ne, LEFTARG = integer, RIGHTARG = integer)",
        ("object operator s{i}.===(integer,integer): function",),
    ),
    Change(
        "operator class",
        "CREATE OPERATOR CLASS s{i}.o_class FOR TYPE integer USING btree AS FUNCTION 1 btint4cmp(integer, integer)",
        "ALTER OPERATOR FAMILY s{i}.o_class USING btree ADD OPERATOR 1 < (integer, integer)",
        ("object operator family s{i}.o_class USING btree: operators",),
    ),
    Change(
        "cast",
        "CREATE TYPE s{i}.cast_from AS ENUM ('a'); " + "CREATE FUNCTION s{i}.to_int(s{i}.cast_from) "
        "RETURNS integer LANGUAGE sql AS 'SELECT 1'; "
        "CREATE CAST (s{i}.cast_from AS integer) WITH FUNCTION s{i}.to_int(s{i}.cast_from)",
        "DROP CAST (s{i}.cast_from AS integer); "
        "CREATE CAST (s{i}.cast_from AS integer) WITH FUNCTION s{i}.to_int(s{i}.cast_from) AS ASSIGNMENT",
        ("object cast (s{i}.cast_from AS integer): context",),
    ),
    Change(
        "conversion",
        "CREATE CONVERSION s{i}.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        "DROP CONVERSION s{i}.conv",
        ("object conversion s{i}.conv: missing",),
    ),
    Change(
        "text search dictionary",
        "CREATE TEXT SEARCH DICTIONARY s{i}.dict (TEMPLATE = simple)",
        "ALTER TEXT SEARCH DICTIONARY s{i}.dict (Accept = false)",
        ("object text search dictionary s{i}.dict: options",),
    ),
    Change(
        "text search mapping",
        "CREATE TEXT SEARCH CONFIGURATION s{i}.conf (COPY = simple)",
        "ALTER TEXT SEARCH CONFIGURATION s{i}.conf DROP MAPPING FOR email",
        ("object text search configuration s{i}.conf: mapping",),
    ),
    Change(
        "foreign server",
        "CREATE FOREIGN DATA WRAPPER fdw_{w}; CREATE SERVER srv_{w} FOREIGN DATA WRAPPER fdw_{w} OPTIONS (host '{w}')",
        "ALTER SERVER srv_{w} OPTIONS (SET host 'other'); ALTER FOREIGN DATA WRAPPER fdw_{w} OPTIONS (ADD a 'b')",
        ("object server srv_{w}: options", "object foreign-data wrapper fdw_{w}: options"),
    ),
    Change(
        "user mapping",
        "CREATE FOREIGN DATA WRAPPER fdw2_{w}; CREATE SERVER srv2_{w} FOREIGN DATA WRAPPER fdw2_{w}; "
        "CREATE USER MAPPING FOR mover_app SERVER srv2_{w} OPTIONS (password 'one')",
        "ALTER USER MAPPING FOR mover_app SERVER srv2_{w} OPTIONS (SET password 'other')",
        ("user mapping mover_app on srv2_{w}: options digest",),
    ),
    Change(
        "foreign table",
        "CREATE FOREIGN DATA WRAPPER fdw3_{w}; CREATE SERVER srv3_{w} FOREIGN DATA WRAPPER fdw3_{w}; "
        "CREATE FOREIGN TABLE s{i}.far (a integer) SERVER srv3_{w} OPTIONS (path 'one')",
        "ALTER FOREIGN TABLE s{i}.far OPTIONS (SET path 'other')",
        ("relation s{i}.far: foreign",),
    ),
    Change(
        "language",
        "CREATE LANGUAGE lang_{w} HANDLER plpgsql_call_handler",
        "ALTER LANGUAGE lang_{w} OWNER TO mover_owner",
        ("object language lang_{w}: owner", "object language lang_{w}: privileges"),
    ),
    Change(
        "publication table",
        _table("u_one") + "; " + _table("u_two") + "; CREATE PUBLICATION pub_{w} FOR TABLE s{i}.u_one",
        "ALTER PUBLICATION pub_{w} ADD TABLE s{i}.u_two",
        ("publication pub_{w}: tables",),
    ),
    Change(
        "publication filter",
        _table("u_f") + "; CREATE PUBLICATION pub2_{w} FOR TABLE s{i}.u_f WHERE (a > {n})",
        "ALTER PUBLICATION pub2_{w} SET TABLE s{i}.u_f WHERE (a > 1{n})",
        ("publication pub2_{w}: tables",),
    ),
    Change(
        "publication that is called nearly as the tool's",
        "SELECT 1",
        "CREATE PUBLICATION statehub_planning_{w}",
        ("publication statehub_planning_{w}: extra",),
    ),
    Change(
        "publication actions",
        "CREATE PUBLICATION pub3_{w}",
        "ALTER PUBLICATION pub3_{w} SET (publish = 'insert')",
        ("publication pub3_{w}: publishes",),
    ),
    Change(
        "event trigger",
        "CREATE FUNCTION s{i}.et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
        "CREATE EVENT TRIGGER et_{w} ON ddl_command_end WHEN TAG IN ('CREATE SEQUENCE') EXECUTE FUNCTION s{i}.et()",
        "ALTER EVENT TRIGGER et_{w} DISABLE",
        ("event trigger et_{w}: enabled",),
    ),
    Change(
        "function of a user in pg_catalog",
        "CREATE FUNCTION pg_catalog.f_{w}() RETURNS integer LANGUAGE sql AS 'SELECT {n}'",
        "CREATE OR REPLACE FUNCTION pg_catalog.f_{w}() RETURNS integer LANGUAGE sql AS 'SELECT 1{n}'",
        ("routine pg_catalog.f_{w}(): definition",),
    ),
    Change(
        "domain of a user in pg_catalog",
        "CREATE DOMAIN pg_catalog.d_{w} AS integer",
        "ALTER DOMAIN pg_catalog.d_{w} SET DEFAULT {n}",
        ("type pg_catalog.d_{w}: default",),
    ),
    Change(
        "default privileges",
        "SELECT 1",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s{i} GRANT SELECT ON TABLES TO mover_app",
        ("default privileges postgres in s{i} for r: extra",),
    ),
    Change(
        "large object owner",
        "SELECT lo_create(90{n}{i})",
        "ALTER LARGE OBJECT 90{n}{i} OWNER TO mover_owner",
        ("large object 90{n}{i}: owner", "large object 90{n}{i}: privileges"),
    ),
    Change(
        "comment on a large object with a low number",
        "SELECT lo_create(77{i})",
        "COMMENT ON LARGE OBJECT 77{i} IS '{w}'",
        ("comment large object 77{i}: extra",),
    ),
    Change(
        "dependency on an extension",
        _FUNCTION % "x_depends",
        "ALTER FUNCTION s{i}.x_depends(integer) DEPENDS ON EXTENSION plpgsql",
        ("dependency function s{i}.x_depends(integer) on extension plpgsql: extra",),
    ),
    Change(
        "comment",
        _table("w_comment") + "; COMMENT ON COLUMN s{i}.w_comment.b IS 'one'",
        "COMMENT ON COLUMN s{i}.w_comment.b IS '{w}'",
        ("comment table column s{i}.w_comment.b: text",),
    ),
    Change(
        "comment missing",
        _table("w_gone") + "; COMMENT ON TABLE s{i}.w_gone IS '{w}'",
        "COMMENT ON TABLE s{i}.w_gone IS NULL",
        ("comment table s{i}.w_gone: missing",),
    ),
)

_HERE = "DO $$BEGIN EXECUTE format('{}', current_database()); END$$"
_ROLE_SETTING = _HERE.format("ALTER ROLE mover_app IN DATABASE %I SET work_mem = {}")

ONCE: tuple[Change, ...] = (
    # what there is one of in a database
    Change("comment on public", "SELECT 1", "COMMENT ON SCHEMA public IS 'ours'", ("comment schema public: text",)),
    Change(
        "grant on what came with the server",
        "SELECT 1",
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep FROM PUBLIC",
        ("changed privileges function pg_catalog.pg_sleep(double precision): extra",),
    ),
    Change(
        "grant on a catalog",
        "SELECT 1",
        "GRANT SELECT ON pg_catalog.pg_authid TO mover_app",
        ("changed privileges table pg_catalog.pg_authid: extra",),
    ),
    Change("extension missing", "CREATE EXTENSION hstore", "DROP EXTENSION hstore", ("extension hstore: missing",)),
    Change(
        "database comment",
        "SELECT 1",
        "DO $$BEGIN EXECUTE format('COMMENT ON DATABASE %I IS ''x''', current_database()); END$$",
        ("database comment: text",),
    ),
    Change(
        "database grant",
        "SELECT 1",
        "DO $$BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END$$",
        ("database access: privileges",),
    ),
    Change(
        "database connection limit",
        "SELECT 1",
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 50', current_database()); END$$",
        ("database access: connection limit",),
    ),
    Change(
        "database owner",
        "SELECT 1",
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO mover_owner', current_database()); END$$",
        ("database access: owner", "database access: privileges"),
    ),
    Change(
        "setting",
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''5MB''', current_database()); END$$",
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I RESET work_mem', current_database()); END$$",
        ("setting every role: work_mem: missing",),
    ),
    Change(
        "setting of a role",
        _ROLE_SETTING.format("5000"),
        _ROLE_SETTING.format("6000"),
        ("setting mover_app: work_mem: value",),
    ),
    Change(
        "setting of the target alone",
        "SELECT 1",
        _HERE.format("ALTER DATABASE %I SET search_path = evil"),
        ("setting every role: search_path: extra",),
    ),
    Change(
        "setting of a role of the target alone",
        "SELECT 1",
        _HERE.format("ALTER ROLE mover_app IN DATABASE %I SET default_transaction_isolation = serializable"),
        ("setting mover_app: default_transaction_isolation: extra",),
    ),
    Change(
        "read-only default of a role",
        "SELECT 1",
        _HERE.format("ALTER ROLE mover_app IN DATABASE %I SET default_transaction_read_only = on"),
        ("setting mover_app: default_transaction_read_only: extra",),
    ),
    Change(
        "read-only default that no freeze of the tool has set",
        "SELECT 1",
        _HERE.format("ALTER DATABASE %I SET default_transaction_read_only = on"),
        ("setting every role: default_transaction_read_only: extra",),
    ),
    Change("extension extra", "SELECT 1", "CREATE EXTENSION citext SCHEMA public", ("extension citext: extra",)),
    Change(
        "comment on an extension",
        "CREATE EXTENSION fuzzystrmatch SCHEMA public",
        "COMMENT ON EXTENSION fuzzystrmatch IS 'ours'",
        ("extension fuzzystrmatch: comment",),
    ),
    Change(
        "version of an extension that is not its server's",
        "CREATE EXTENSION pg_trgm SCHEMA public",
        "UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'pg_trgm'",
        ("extension pg_trgm: version",),
    ),
    Change(
        "grant on what an extension brought",
        "CREATE EXTENSION postgres_fdw SCHEMA public",
        "GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO mover_app",
        ("changed privileges foreign-data wrapper postgres_fdw: extra",),
    ),
    Change(
        "operator family of the server",
        "CREATE FUNCTION s{i}.compare_money(int4, money) RETURNS int4 LANGUAGE sql IMMUTABLE AS 'SELECT 0'",
        "ALTER OPERATOR FAMILY pg_catalog.integer_ops USING btree ADD FUNCTION 1 (int4, money) "
        "s{i}.compare_money(int4, money); ",
        ("added to operator family pg_catalog.integer_ops USING btree: extra",),
    ),
    Change(
        "text search configuration of the server",
        "SELECT 1",
        "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english DROP MAPPING FOR email",
        ("built-in text search configuration english: mapping",),
    ),
    Change(
        "text search dictionary of the server",
        "SELECT 1",
        "ALTER TEXT SEARCH DICTIONARY pg_catalog.french_stem (StopWords)",
        ("built-in text search dictionary french_stem: options",),
    ),
    Change(
        "version of a collation that only a check uses",
        _table("z_icu2", "a text CHECK (a > 'b' COLLATE \"C.utf8\")"),
        "UPDATE pg_collation SET collversion = '1.2.3' WHERE collname = 'C.utf8'",
        ('collation pg_catalog."C.utf8": version',),
    ),
    Change(
        "security label of the database",
        "SELECT 1",
        "INSERT INTO pg_shseclabel SELECT oid, 'pg_database'::regclass, 'p', 'l' FROM pg_database "
        "WHERE datname = current_database()",
        ("security label p on database: extra",),
    ),
)
