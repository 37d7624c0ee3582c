"""Where clients are really pointed, and pointing them elsewhere: read and change one access path, atomically."""

from __future__ import annotations

from statehub_plan.access.redirect import AccessChange, endpoint_of, read_access, redirect, try_redirect
from statehub_plan.access.textfile import resolve_path

__all__ = ["AccessChange", "endpoint_of", "read_access", "redirect", "resolve_path", "try_redirect"]
