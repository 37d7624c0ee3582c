"""Plan-as-code for moving the primary of a PostgreSQL-backed service from one place to another."""

from __future__ import annotations

__version__ = "0.1.0"
