"""The demo's reload command: it waits for the bridge's next word, wherever the file system puts it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import FrameType

from statehub_plan.demo.reload import main


def test_a_status_in_the_place_of_the_one_before_is_a_new_one(tmp_path: Path) -> None:
    """A freed inode may be given to the very next file: the number alone says nothing."""
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
    before = status.stat()

    def tell(_number: int, _frame: FrameType | None) -> None:
        status.write_text(json.dumps({"pid": os.getpid(), "tunnels": {}}), encoding="utf-8")

    earlier = signal.signal(signal.SIGHUP, tell)
    try:
        assert 0 == main(str(status))
    finally:
        signal.signal(signal.SIGHUP, earlier)
    assert before.st_ino == status.stat().st_ino
