"""Make .venv from requirements.lock, every file checked against its hash. Needs nothing but Python 3.11 or newer.

Debian and Ubuntu leave ensurepip out of python3 (it is in python3-venv); then a pinned pip is fetched instead.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
PIP_WHEEL = "pip-26.3-py3-none-any.whl"
PIP_URL = f"https://files.pythonhosted.org/packages/07/25/ee8c38ae72d66b844ce8eb9711ba905dba21ca1a8a0c960057c41cd23337/{PIP_WHEEL}"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"


def main() -> None:
    """A complete environment, or a message that says what is missing and how to get it."""
    if not _works(PYTHON, "import sys; sys.exit(sys.version_info < (3, 11))"):
        venv.create(ENVIRONMENT, clear=True, symlinks=True, with_pip=False)
    if not _works(PYTHON, "import pip"):
        _install_pip()
    print("installing the locked dependencies into .venv", file=sys.stderr)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    # --no-deps: the lock is complete, and with hashes nothing else could be installed anyway.
    _run([*pip, "--require-hashes", "--no-deps", "--requirement", str(ROOT / "requirements.lock")], "dependencies")
    # The build back end is locked as well, hence no isolated build environment, which would be filled without hashes.
    _run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], "project")


def _works(python: Path, program: str) -> bool:
    return python.exists() and subprocess.run([python, "-c", program], capture_output=True, check=False).returncode == 0


def _install_pip() -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        _run([str(PYTHON), "-m", "ensurepip", "--upgrade"], "pip", quiet=True)
        return
    with tempfile.TemporaryDirectory() as place:
        wheel = Path(place) / PIP_WHEEL
        try:
            with urllib.request.urlopen(PIP_URL, timeout=60) as answer:
                wheel.write_bytes(answer.read())
        except (urllib.error.URLError, TimeoutError) as error:
            _fail("pip", f"{PIP_URL}: {error}", "`apt-get install python3-venv`, then run make again")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != PIP_SHA256:
            _fail("pip", f"{PIP_URL} has SHA-256 {found}, not {PIP_SHA256}", "`apt-get install python3-venv`")
        # pip runs from its own wheel, which is how ensurepip does it, too.
        _run([str(PYTHON), f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel)], "pip")


def _run(command: list[str], what: str, *, quiet: bool = False) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, check=False)
    if done.returncode != 0:
        _fail(
            what,
            f"status {done.returncode} from: {' '.join(command)}",
            "see the messages above; PyPI must be reachable",
        )


def _fail(what: str, why: str, remedy: str) -> None:
    sys.exit(f"make: {what} could not be installed into .venv\n  - {why}\n  remedy: {remedy}")


if __name__ == "__main__":
    main()
