-- The tool's own objects in a database. Run as one transaction, again whenever this text has changed.
-- {{...}} are filled in by state.install.

CREATE SCHEMA IF NOT EXISTS statehub_plan;

CREATE TABLE IF NOT EXISTS statehub_plan.state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    layout text NOT NULL,
    system_identifier text NOT NULL,
    database_oid bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    owner text,
    fence_term bigint,
    fence_run text,
    fence_hold text,
    fence_primary text,
    fence_proof text,
    frozen_at timestamptz,
    opened_term bigint,
    opened_at timestamptz,
    retired_run text,
    retired_at timestamptz,
    transfer_stage text,
    transfer_hold text,
    transfer_term bigint,
    transfer_source jsonb,
    transfer_proof text
);

CREATE TABLE IF NOT EXISTS statehub_plan.passage (
    pid integer NOT NULL,
    backend_start timestamptz NOT NULL,
    epoch bigint NOT NULL,
    owner text,
    PRIMARY KEY (pid, backend_start)
);

CREATE TABLE IF NOT EXISTS statehub_plan.decision (
    term bigint PRIMARY KEY CHECK (term > 0),
    primary_endpoint text,
    identity jsonb NOT NULL,
    run text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Published with the user's tables: a change of its one row is a barrier that travels down the stream.
CREATE TABLE IF NOT EXISTS statehub_plan.barrier (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    token text NOT NULL DEFAULT ''
);
INSERT INTO statehub_plan.barrier DEFAULT VALUES ON CONFLICT DO NOTHING;

-- Tables that a fill of this database has finished; each row is committed with the table's last rows.
CREATE TABLE IF NOT EXISTS statehub_plan.filled (
    schema_name text,
    table_name text,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);

-- Statements of the schema's second half that this fill has run, by their digest; committed together with each.
CREATE TABLE IF NOT EXISTS statehub_plan.built (
    statement text PRIMARY KEY
);

-- What earlier layouts did not have.
ALTER TABLE statehub_plan.state ADD COLUMN IF NOT EXISTS owner text;
ALTER TABLE statehub_plan.passage ADD COLUMN IF NOT EXISTS owner text;
ALTER TABLE statehub_plan.state ADD COLUMN IF NOT EXISTS fill_stage text;
ALTER TABLE statehub_plan.state ADD COLUMN IF NOT EXISTS fill_slot text;
ALTER TABLE statehub_plan.state ADD COLUMN IF NOT EXISTS fill_point text;
ALTER TABLE statehub_plan.state ADD COLUMN IF NOT EXISTS fill_timeline bigint;

CREATE OR REPLACE VIEW statehub_plan.user_table AS {{user_tables}};

-- Whether the fence lets everybody pass: always, unless the database is frozen. Then a trigger that somebody enables with
-- all of a table's (a bulk load's ENABLE TRIGGER USER) refuses nobody. Replaced as a whole when a database is opened or
-- frozen: that takes no lock on any table, and a function's body is read as it was committed last, also by a transaction
-- with an older snapshot.
DO $block$
DECLARE
    frozen boolean;
BEGIN
    SELECT fence_term IS NOT NULL INTO frozen FROM statehub_plan.state FOR UPDATE;
    IF frozen IS NOT TRUE OR to_regprocedure('statehub_plan.gate()') IS NULL THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION statehub_plan.gate() RETURNS boolean LANGUAGE plpgsql AS %L',
                       format('BEGIN RETURN %s; END', CASE WHEN frozen THEN 'false' ELSE 'true' END));
    END IF;
END
$block$;

CREATE OR REPLACE FUNCTION statehub_plan.pass_or_refuse(operation text, schema_name text, table_name text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    mark record;
BEGIN
    PERFORM FROM statehub_plan.passage p
        JOIN statehub_plan.state s ON s.epoch = p.epoch AND s.owner IS NOT DISTINCT FROM p.owner
        JOIN pg_stat_get_activity(pg_backend_pid()) a ON a.backend_start = p.backend_start
        WHERE p.pid = pg_backend_pid();
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT fence_run, fence_term, fence_primary, frozen_at INTO mark FROM statehub_plan.state;
    RAISE EXCEPTION USING
        ERRCODE = 'read_only_sql_transaction',
        MESSAGE = format('%s on %I.%I refused: database %I is frozen by statehub-plan',
                         operation, schema_name, table_name, current_database()),
        DETAIL = format('Run %s, term %s, frozen at %s.', coalesce(mark.fence_run, 'unknown'),
                        coalesce(mark.fence_term::text, 'unknown'), coalesce(mark.frozen_at::text, 'unknown')),
        HINT = format('The primary will be %s: reconnect by the usual access path and try again.',
                      coalesce(mark.fence_primary, 'the other endpoint'));
END
$function$;

-- Fires for everyone who writes, owners and superusers included, and not for a replication apply worker.
-- SECURITY DEFINER: writers may not read the tool's tables. One expression only: PL/pgSQL compiles a trigger function
-- anew for every table, and a session that met 1,000 of them paid 5,000 plans and seconds at each invalidation.
CREATE OR REPLACE FUNCTION statehub_plan.fence() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF statehub_plan.gate() OR statehub_plan.pass_or_refuse(TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME) THEN
        RETURN NULL;
    END IF;
END
$function$;

-- Takes SHARE ROW EXCLUSIVE on the table, so it waits for writers: give it a lock_timeout.
CREATE OR REPLACE FUNCTION statehub_plan.fence_table(target oid, enabled boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    mode "char";
    sound boolean;
BEGIN
    SELECT tgenabled, tgtype = 62 AND tgqual IS NULL AND tgattr = ''::int2vector
            AND tgfoid = 'statehub_plan.fence()'::regprocedure INTO mode, sound
        FROM pg_trigger WHERE tgrelid = target AND tgname = 'statehub_plan_fence' AND NOT tgisinternal;
    IF NOT sound THEN  -- somebody's hand
        EXECUTE format('DROP TRIGGER statehub_plan_fence ON %s', target::regclass);
        mode := NULL;
    END IF;
    IF mode IS NULL THEN
        EXECUTE format('CREATE TRIGGER statehub_plan_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                       'FOR EACH STATEMENT EXECUTE FUNCTION statehub_plan.fence()', target::regclass);
        mode := 'O';
    END IF;
    IF enabled AND mode <> 'O' THEN
        EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER statehub_plan_fence', target::regclass);
    ELSIF NOT enabled AND mode <> 'D' THEN
        EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER statehub_plan_fence', target::regclass);
    END IF;
END
$function$;

-- For scripts: `SELECT statehub_plan.fence_tables(true)` fences everything in the script's own transaction.
CREATE OR REPLACE FUNCTION statehub_plan.fence_tables(enabled boolean) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $function$
    SELECT count(*) FROM (
        SELECT statehub_plan.fence_table(u.oid::oid, enabled) FROM statehub_plan.user_table u
        WHERE u.oid::oid NOT IN (  -- a thousand that need nothing cost a hold a millisecond; NOT EXISTS would be a loop
            SELECT t.tgrelid FROM pg_trigger t WHERE t.tgname = 'statehub_plan_fence'
            AND NOT t.tgisinternal AND t.tgenabled = CASE WHEN enabled THEN 'O' ELSE 'D' END::"char")
        ORDER BY u.nspname, u.relname OFFSET 0) AS done
$function$;

-- Whether a barrier has arrived, looked for twice a millisecond; needs READ COMMITTED.
CREATE OR REPLACE FUNCTION statehub_plan.await_barrier(wanted text, at_most_ms integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    until timestamptz := clock_timestamp() + make_interval(secs => at_most_ms / 1000.0);
BEGIN
    LOOP
        PERFORM FROM statehub_plan.barrier b WHERE b.token = wanted;
        IF FOUND OR clock_timestamp() >= until THEN
            RETURN FOUND;
        END IF;
        PERFORM pg_sleep(0.0005);
    END LOOP;
END
$function$;

-- For whom this session acts: the holder of one lease; NULL for scripts. Two journals may issue the same epoch.
CREATE OR REPLACE FUNCTION statehub_plan.session_owner() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT nullif(current_setting('statehub_plan.owner', true), '')
$function$;

-- Lets the calling session through the fence until it ends, another epoch is claimed or the database is frozen anew.
-- Without an epoch: on behalf of whoever acts now.
CREATE OR REPLACE FUNCTION statehub_plan.admit(as_epoch bigint DEFAULT NULL) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $function$
    DELETE FROM statehub_plan.passage p
        WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = p.pid AND a.backend_start = p.backend_start)
           OR p.pid = pg_backend_pid();
    INSERT INTO statehub_plan.passage (pid, backend_start, epoch, owner)
        SELECT a.pid, a.backend_start, coalesce(as_epoch, s.epoch),
               CASE WHEN as_epoch IS NULL THEN s.owner ELSE statehub_plan.session_owner() END
        FROM pg_stat_get_activity(pg_backend_pid()) a, statehub_plan.state s
$function$;

-- Nobody but the owner: default privileges of the owner may have granted what a writer must not have.
DO $block$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END
        FROM (SELECT relacl AS acl, relowner AS owner FROM pg_class WHERE relnamespace = 'statehub_plan'::regnamespace
              UNION ALL SELECT proacl, proowner FROM pg_proc WHERE pronamespace = 'statehub_plan'::regnamespace
              UNION ALL SELECT coalesce(proacl, acldefault('f', proowner)), proowner FROM pg_proc
                  WHERE pronamespace = 'statehub_plan'::regnamespace
              UNION ALL SELECT nspacl, nspowner FROM pg_namespace WHERE oid = 'statehub_plan'::regnamespace) AS held,
             aclexplode(held.acl) AS acl
        WHERE acl.grantee <> held.owner
    LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA statehub_plan FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA statehub_plan FROM %s', grantee);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA statehub_plan FROM %s', grantee);
    END LOOP;
END
$block$;

INSERT INTO statehub_plan.state (layout, system_identifier, database_oid)
    SELECT {{layout}}, (SELECT system_identifier::text FROM pg_control_system()), d.oid
    FROM pg_database d WHERE d.datname = current_database()
    ON CONFLICT (singleton) DO UPDATE SET layout = excluded.layout;
