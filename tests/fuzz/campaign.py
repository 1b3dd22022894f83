"""The coverage-guided fuzzer on every target: ``python tests/fuzz/campaign.py [--seconds N] […]``.

Each target runs in a process of its own. What ends one is written to a file beside its traceback;
``--replay NAME FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

sys.path[:0] = [str(Path(__file__).parents[2])]

#: Seconds after which one input counts as a hang.
_HANG = 20
_MEMORY = 2048
_DICTIONARY = "".join(
    f'"{word}"\n'
    for word in (
        *(r"\"type\":", r"\"transfer\"", r"\"fileRegex\":", r"\"destination\":", "NaN", "1e999"),
        *("<Contents>", "</Contents>", "<Key>", "<!DOCTYPE ", "<![CDATA[", "&#65;", "&amp;"),
        *("arn:aws:", ":function:", "s3://", "://", r"\x00", r"\xed\xa0\x80", r"\xef\xbf\xbe"),
        *(r"\\ud800", "$..", "HTTP/1.1 ", r"\x0d\x0a", "Transfer-Encoding: chunked"),
    )
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "FILE"))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="targets; without any, all of them")
    chosen, rest = parser.parse_known_args()
    if chosen.replay:
        name, file = chosen.replay
        _targets()[name].run(Path(file).read_bytes())
        return 0
    if chosen.alone:
        return _alone(chosen.alone, rest)
    results = [_run(name, chosen.seconds) for name in chosen.names or _targets()]
    return int(any(not good for good in results))


def _targets() -> dict[str, Target]:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415  # first imported where it is instrumented

    return TARGETS


def _alone(name: str, arguments: list[str]) -> int:
    """Fuzz one target in this process, which libFuzzer ends."""
    import atheris  # noqa: PLC0415  # the targets run without it

    with atheris.instrument_imports(include=["aiohaul", "json", "jsonpath_ng"]):
        targets = _targets()
    atheris.Setup([sys.argv[0], *arguments], targets[name].run)
    atheris.Fuzz()
    return 0


def _run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own: True if nothing was found."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus, words = Path(scratch, "corpus"), Path(scratch, "words")
        corpus.mkdir()
        words.write_text(_DICTIONARY)
        for number, seed in enumerate(_targets()[name].seeds):
            (corpus / str(number)).write_bytes(seed)
        command = [
            *(sys.executable, __file__, "--alone", name),
            *(f"-max_total_time={seconds}", f"-timeout={_HANG}", f"-rss_limit_mb={_MEMORY}"),
            *(f"-dict={words}", f"-artifact_prefix={name}-", "-max_len=4096", str(corpus)),
        ]
        done = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, errors="replace", check=False, env=_clean()
        )
    executions = re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
    verdict = "nothing found" if done.returncode == 0 else "FOUND"
    sys.stdout.write(f"{name}: {executions[-1] if executions else 0} executions, {verdict}\n")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith(("#", "INFO"))]
        sys.stdout.write("\n".join(lines)[-6000:] + "\n")
    sys.stdout.flush()
    return done.returncode == 0


def _clean() -> dict[str, str]:
    """An environment in which nothing of AWS is around."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


if __name__ == "__main__":
    sys.exit(main())
