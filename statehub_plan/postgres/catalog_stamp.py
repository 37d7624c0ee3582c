"""Whether a database's catalog is still what it was: one cheap query in place of reading all of it again."""

from __future__ import annotations

import hashlib

from statehub_plan.postgres.catalog_sql import the_tools_freeze
from statehub_plan.postgres.connect import Connection

__all__ = ["catalog_stamp"]

_WITH_XMIN = (
    *("pg_namespace", "pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_inherits"),
    *("pg_sequence", "pg_proc", "pg_aggregate", "pg_rewrite", "pg_policy", "pg_type", "pg_enum", "pg_range"),
    *("pg_extension", "pg_publication", "pg_publication_rel", "pg_event_trigger", "pg_default_acl"),
    *("pg_statistic_ext", "pg_depend", "pg_operator", "pg_opclass", "pg_opfamily", "pg_amop", "pg_amproc"),
    *("pg_cast", "pg_collation", "pg_conversion", "pg_ts_config", "pg_ts_config_map", "pg_ts_dict", "pg_ts_parser"),
    *("pg_ts_template", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_foreign_table", "pg_language"),
    *("pg_transform", "pg_am", "pg_init_privs", "pg_description", "pg_shdescription", "pg_seclabel"),
    *("pg_largeobject_metadata", "pg_shseclabel", "pg_tablespace", "pg_auth_members"),
)
# Enabling the tool's own fence is part of every move, and no news about the service's schema.
_OTHERS = {
    "pg_trigger": "(SELECT t.xmin FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
    "WHERE p.pronamespace IS DISTINCT FROM (SELECT to_regnamespace('statehub_plan')))",
    "pg_database": "(SELECT xmin FROM pg_database WHERE datname = current_database())",
}
_TEXTS = {
    # what may not be read row by row, or not without the tool's own settings
    "pg_roles": "SELECT concat_ws(' ', oid, rolname, rolsuper, rolinherit, rolcanlogin, rolbypassrls) FROM pg_roles",
    "pg_subscription": "SELECT concat_ws(' ', oid, subname, subowner, subenabled, subslotname, subpublications, "
    "subsynccommit, subbinary) FROM pg_subscription",
    "pg_user_mappings": "SELECT m::text FROM pg_user_mappings m",
    "pg_db_role_setting": "SELECT concat_ws(' ', setdatabase, setrole, s) FROM pg_db_role_setting x, unnest(setconfig) "
    f"AS s WHERE NOT {the_tools_freeze('x', 's')}",
}
_SINCE_15 = ("pg_publication_namespace", "pg_parameter_acl")


def catalog_stamp(connection: Connection) -> str:
    """A digest of which versions of which rows the catalog consists of, for comparing with an earlier one of the same
    database: any DDL changes it. Temporary tables do too, so another stamp is a reason to look, not a difference.

    Every transaction leaves its number in the rows that it writes (system column xmin, manual 5.6). Only what is
    written in place keeps it: statistics of VACUUM and ANALYZE, and values of sequences.
    """
    catalogs = [*_WITH_XMIN, *(_SINCE_15 if connection.info.server_version >= 150000 else ())]
    parts = [_counted(name, name) for name in catalogs] + [
        _counted(name, f"{rows} x") for name, rows in _OTHERS.items()
    ]
    parts += [
        f"SELECT '{name}', count(*), coalesce(sum(hashtextextended(x, 7)), 0) FROM ({query}) q(x)"
        for name, query in _TEXTS.items()
    ]
    rows = connection.execute(" UNION ALL ".join(parts).encode()).fetchall()
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


def _counted(name: str, rows: str) -> str:
    return f"SELECT '{name}', count(*), coalesce(sum(hashint8extended(xmin::text::int8, 7)), 0) FROM {rows}"
