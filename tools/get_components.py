"""Report the real components, and get OPA if there is none: built by Go where Go is, else the pinned release.

Run by .venv's Python. Writes below ~/.cache/statehub-plan (or XDG_CACHE_HOME) and .venv only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from statehub_plan.components import find_opa, find_ssh_keygen, opa_problem, opa_version, server_installations
from statehub_plan.errors import StatehubError

OPA_VERSION = "1.20.2"
# What `go install` must have built: the module's checksum as recorded by sum.golang.org and in every build.
OPA_MODULE = "github.com/open-policy-agent/opa"
OPA_MODULE_SUM = "h1:dlX5VEGA5M62W8+X1nRPEaQIh/CMRn5FcD1mebpKWKg="
# SHA-256 of the release's static binaries; to change with the version, from the .sha256 files beside them.
OPA_RELEASE = f"https://github.com/open-policy-agent/opa/releases/download/v{OPA_VERSION}"
OPA_RELEASE_SHA256 = {
    ("Linux", "x86_64"): ("opa_linux_amd64_static", "69da5179ee403d10fa11bab6cfb4ffb0d23dba5f9b682fa977db772a1da5670f"),
    ("Linux", "aarch64"): (
        "opa_linux_arm64_static",
        "431bed5a365578241ab06c7cc1c7d0cdff8c11dcbc6f12c3488590deb8b8d66d",
    ),
}
_MAX_BYTES = 200 * 1024 * 1024
_BUILD_TIMEOUT_S = 1800


def main() -> None:
    """One line for each component; exit status 1 and a remedy if one can't be had."""
    try:
        for installation in server_installations():
            _say(f"PostgreSQL {installation.version}  {installation.bin_dir} ({installation.source})")
        _say(f"ssh-keygen  {find_ssh_keygen()}")
        opa = _opa()
        _say(f"OPA {'.'.join(map(str, opa_version(opa) or ()))}  {opa}")
    except StatehubError as error:
        sys.exit(f"make: {error}")


def _opa() -> Path:
    try:
        return find_opa()
    except StatehubError as error:
        if error.code != "component-missing":
            raise
        missing = error
    cached = _cache_home() / "statehub-plan" / f"opa-{OPA_VERSION}" / "opa"
    if opa_problem(cached) is not None:
        _get(cached, missing)
    own = Path(sys.prefix) / "bin" / "opa"
    own.unlink(missing_ok=True)
    own.symlink_to(cached)
    return own


def _get(cached: Path, missing: StatehubError) -> None:
    """Leave a checked executable at `cached`, or raise with every reason why not."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    problems = list(missing.details)
    with tempfile.TemporaryDirectory(dir=cached.parent) as place:
        for attempt in (_build, _download):
            problem = attempt(Path(place))
            made = Path(place) / "opa"
            problem = problem or opa_problem(made)
            if problem is None:
                made.replace(cached)
                return
            problems.append(problem)
    raise StatehubError(
        code="component-missing",
        what=f"OPA {OPA_VERSION} could neither be found, nor built, nor downloaded",
        hint="put `opa` 1.0 or newer on PATH (https://www.openpolicyagent.org/docs/#1-download-opa), "
        "or install Go from https://go.dev/dl, and run make again",
        details=tuple(problems),
    )


def _build(place: Path) -> str | None:
    # Go's own instructions put it there and leave PATH to a login shell, which CI and sudo are not.
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        return "go is neither on PATH nor in /usr/local/go, so it was not built"
    _say(f"building OPA {OPA_VERSION} with {go}; once, about a minute")
    environment = {
        **os.environ,
        "GOBIN": str(place),
        # Sources and objects of a hundred modules, half a gigabyte: removed with `place`.
        "GOPATH": str(place / "go"),
        "GOMODCACHE": str(place / "go" / "pkg" / "mod"),
        "GOCACHE": str(place / "cache"),
        "GOFLAGS": "-modcacherw",
        # Go counts its own use below its configuration directory; its settings (a proxy, say) stay where they are.
        "XDG_CONFIG_HOME": str(place / "config"),
        "GOENV": os.environ.get("GOENV") or str(_config_home() / "go" / "env"),
        "CGO_ENABLED": "0",
    }
    command = [go, "install", "-trimpath", f"{OPA_MODULE}@v{OPA_VERSION}"]
    problem = _output(command, environment)[1]
    if problem is not None:
        return f"go install failed: {problem}"
    if OPA_MODULE_SUM not in _output([go, "version", "-m", str(place / "opa")], environment)[0].split():
        return f"go install built something else than {OPA_MODULE} {OPA_VERSION} ({OPA_MODULE_SUM})"
    return None


def _download(place: Path) -> str | None:
    system = (platform.system(), platform.machine())
    if system not in OPA_RELEASE_SHA256:
        return f"no release with a known checksum for {' '.join(system)}"
    name, expected = OPA_RELEASE_SHA256[system]
    url = f"{OPA_RELEASE}/{name}"
    _say(f"downloading {url}")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, (place / "opa").open("wb") as file:
            while (chunk := answer.read(1 << 20)) and file.tell() <= _MAX_BYTES:
                digest.update(chunk)
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError) as error:
        return f"{url}: {error}"
    if digest.hexdigest() != expected:
        (place / "opa").unlink()
        return f"{url} has SHA-256 {digest.hexdigest()}, not {expected}: not used"
    (place / "opa").chmod(0o755)
    return None


def _output(command: list[str], environment: dict[str, str]) -> tuple[str, str | None]:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    lines = done.stderr.strip().splitlines()
    return done.stdout, None if done.returncode == 0 else " / ".join(lines[-3:]) or f"status {done.returncode}"


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
