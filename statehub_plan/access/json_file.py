"""A string in a JSON file, addressed by an RFC 6901 pointer (an MCP client's `API_BASE`, say). Pure."""

from __future__ import annotations

import json

from statehub_plan import jsonpointer
from statehub_plan.access.place import Place, PlaceError


def find(text: str, pointer: str) -> Place:
    """The string at `pointer`. PlaceError where the text is not JSON, the pointer leads nowhere or to more than one
    place, or to something that is not a string."""
    try:
        found = jsonpointer.find(text, pointer)
    except jsonpointer.PointerError as error:
        offsets = () if error.offset is None else (error.offset,)
        raise PlaceError(error.problem, "correct the pointer in the plan, or the file", *offsets) from error
    except json.JSONDecodeError as error:
        raise PlaceError(
            f"not JSON: {error.msg}",
            "make it plain JSON (no comments, no trailing commas), or use an access path of kind command",
            error.pos,
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of too many digits
        raise PlaceError(f"this JSON can't be read: {error}", "correct the file") from error
    if not isinstance(found.value, str):
        kind = jsonpointer.kind_of(found.value)
        raise PlaceError(f"{pointer} is {kind}, not a string", "point at the string itself", found.start)
    return Place(value=found.value, start=found.start, end=found.end, spell=lambda value: (json.dumps(value),))
