# a script, which prints its table
"""Does the same configuration do the same with both addons?

    python -m benchmarks.otf.compare_addons

Every definition below is run by the framework's own ``task-run``: once with aiohaul, once with
otf-addons-aws from PyPI in an environment of its own. Both begin with the same objects, in
buckets of their own, on a moto server. Afterwards exit codes, objects (their content, metadata,
content type, tags, storage class) and ACLs are held against each other. Of functions and tasks it
is the exit code, the requests and what is in the output. Where the two are meant to differ, that is
said with the definition; any other difference, and a difference that is meant and not seen, ends in
exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from benchmarks.otf import compute_cases
from benchmarks.otf.compute_cases import COMPARED, COMPUTE_CASES
from benchmarks.otf.reference import KEY, REGION, SECRET, environment, moto, reference_python

S3 = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}
ROLES = ("in", "out", "archive")
WHAT = ("exit", "objects", "acl")
NOT_SEEN = "NOT SEEN"
MEBIBYTE = 2**20

Definition = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A definition, and how the two are meant to differ, in words; "" is not at all.

    Attributes:
        name: of the line in the table.
        definition: what ``task-run`` gets.
        differs: what of "exit", "objects" and "acl" differs, and why.
        objects: what is in the bucket "in" beforehand.
        files: what is in the local directory beforehand.
    """

    name: str
    definition: Definition
    differs: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def source(**more: Any) -> Definition:
    """A source in S3; what is None is left out."""
    usual = {"bucket": "{{ IN }}", "directory": "src", "fileRegex": r".*\.txt", "protocol": S3}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def to(**more: Any) -> Definition:
    """A destination in S3."""
    return {"bucket": "{{ OUT }}", "directory": "dest", "protocol": S3, **more}


def local(**more: Any) -> Definition:
    """A local side."""
    return {"directory": "{{ HERE }}", "protocol": {"name": "local"}, **more}


def transfer(first: Definition, *rest: Definition) -> Definition:
    """A transfer."""
    return {"type": "transfer", "source": first} | ({"destination": list(rest)} if rest else {})


USUAL: Mapping[str, Mapping[str, Any]] = {
    "src/a.txt": {"Body": b"one", "ContentType": "text/csv", "Metadata": {"k": "v"}},
    "src/b.txt": {"Body": b"two", "Tagging": "t=1"},
    "src/c.log": {"Body": b"other"},
    "src/deeper/d.txt": {"Body": b"deeper"},
    "e.txt": {"Body": b"root"},
}
LARGE = {"src/l.txt": {"Body": b"l" * (9 * MEBIBYTE), "Metadata": {"k": "v"}, "Tagging": "t=1"}}
NO_ACL = {"acl": "the reference sets no ACL on what S3 copies"}
RENAME = {"pattern": r"\.txt$", "sub": ".csv"}

CASES = [
    Case("S3 to S3", transfer(source(), to()), NO_ACL, USUAL),
    Case(
        "S3 to S3, 9 MiB",
        transfer(source(), to()),
        {**NO_ACL, "objects": "the reference copies in parts, and loses metadata and tags"},
        LARGE,
    ),
    Case(
        "S3 to S3, STANDARD_IA",
        transfer(source(), to()),
        {**NO_ACL, "objects": "the reference writes the storage class STANDARD"},
        {"src/i.txt": {"Body": b"rare", "StorageClass": "STANDARD_IA"}},
    ),
    Case("S3 to S3, renamed", transfer(source(), to(rename=RENAME)), NO_ACL, USUAL),
    Case(
        "S3 to S3 twice, flags, deleted",
        transfer(
            source(postCopyAction={"action": "delete"}),
            to(flags={"fullPath": "dest/done.flg"}),
            to(bucket="{{ ARCHIVE }}"),
        ),
        NO_ACL,
        USUAL,
    ),
    Case(
        "moved to a directory",
        transfer(source(postCopyAction={"action": "move", "destination": "old/"}), to()),
        NO_ACL,
        USUAL,
    ),
    Case(
        "moved to a bucket",
        transfer(
            source(postCopyAction={"action": "move", "destination": "s3://{{ ARCHIVE }}/old/"}),
            to(),
        ),
        NO_ACL,
        USUAL,
    ),
    Case(
        "renamed afterwards",
        transfer(
            source(postCopyAction={"action": "rename", "destination": "src/", **RENAME}), to()
        ),
        NO_ACL,
        USUAL,
    ),
    Case("S3 to S3 by proxy", transfer(source(), to(transferType="proxy")), {}, USUAL),
    Case("S3 to local", transfer(source(), local()), {}, USUAL),
    Case("S3 to S3 and local", transfer(source(), to(), local()), {}, USUAL),
    Case(
        "S3 to S3, by proxy and not",
        transfer(source(), to(transferType="proxy"), to(bucket="{{ ARCHIVE }}")),
        NO_ACL,
        USUAL,
    ),
    Case(
        "local to S3, flags",
        transfer(local(fileRegex=".*"), to(flags={"fullPath": "dest/done.flg"})),
        files={"f.txt": b"one", "g.bin": b"\x00" * 9 * MEBIBYTE},
    ),
    Case(
        "local to S3, renamed and deleted",
        transfer(local(fileRegex=".*", postCopyAction={"action": "delete"}), to(rename=RENAME)),
        files={"f.txt": b"one", "g.txt": b""},
    ),
    Case(
        "the whole bucket",
        transfer(source(directory="", fileRegex=r"[de]\.txt"), to()),
        NO_ACL,
        USUAL,
    ),
    Case(
        "to the root of a bucket",
        transfer(source(), to(directory="")),
        {**NO_ACL, "objects": "the reference's keys begin with '/'"},
        USUAL,
    ),
    Case(
        "no directory, watched",
        transfer(source(directory=None, fileWatch={"timeout": 5}), to()),
        {
            "exit": "the reference fails where it should use the whole bucket",
            "objects": "as above",
            "acl": "as above",
        },
        USUAL,
    ),
    Case(
        "no directory there",
        transfer(source(), {"bucket": "{{ OUT }}", "protocol": S3}),
        {
            "exit": "the reference fails where it should use the root",
            "objects": "as above",
            "acl": "as above",
        },
        USUAL,
    ),
    Case(
        "two of one name",
        transfer(source(directory=""), to()),
        {
            "exit": "the reference overwrites one with the other",
            "objects": "as above",
            "acl": "as above",
        },
        {"one/x.txt": {"Body": b"1"}, "two/x.txt": {"Body": b"2"}},
    ),
    Case("watched, and hauled", transfer(source(fileWatch={"timeout": 5}), to()), NO_ACL, USUAL),
    Case("watched only", transfer(source(fileWatch={"timeout": 5, "watchOnly": True})), {}, USUAL),
    Case("watched in vain", transfer(source(fileWatch={"timeout": 1}))),
    Case("nothing there", transfer(source(), to())),
    Case("nothing there, no error", transfer(source(error=False), to())),
    Case("no such bucket", transfer(source(bucket="nowhere-at-all"), to())),
    Case(
        "conditions met by one",
        transfer(source(fileRegex=".*", conditionals={"size": {"gt": 3}}), to()),
        NO_ACL,
        USUAL,
    ),
    Case(
        "conditions met by none",
        transfer(source(conditionals={"count": {"minCount": 9}}), to()),
        {},
        USUAL,
    ),
    Case(
        "a watch with the regex",
        transfer(
            source(
                fileRegex=None,
                directory=None,
                fileWatch={"timeout": 5, "directory": "src", "fileRegex": r".*\.txt"},
            )
        ),
        {"exit": "the reference's schema refuses the example of its own documentation"},
        USUAL,
    ),
    Case(
        "flag, as documented",
        transfer(source(), to(flag={"fullPath": "dest/done.flg"})),
        {
            "exit": "the reference's schema refuses the example of its own documentation",
            "objects": "as above",
            "acl": "as above",
        },
        USUAL,
    ),
    Case(
        "touch",
        {"type": "execution", "bucket": "{{ OUT }}", "key": "a/touch.flg", "protocol": S3},
        {
            "exit": "the reference's schema knows no S3 handler here",
            "objects": "as above",
            "acl": "as above",
        },
    ),
    Case("a wrong definition", transfer(source(directory="/src"), to()), {}, USUAL),
    Case(
        "no such function",
        {
            "type": "execution",
            "functionArn": "nowhere",
            "protocol": {"name": "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"},
        },
    ),
]


@dataclass(frozen=True)
class Outcome:
    """What one addon made of a case."""

    exit: int
    objects: dict[str, Any]
    acl: dict[str, Any]
    seconds: float


class Side:
    """One addon: its ``task-run``, and how it finds what was done."""

    def __init__(self, name: str, python: Path, url: str) -> None:
        self.name = name
        self._command = python.with_name("task-run")
        self._url = url
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        self._s3 = boto3.client("s3", endpoint_url=url, region_name=REGION, **keys)
        self._ssm = boto3.client("ssm", endpoint_url=url, region_name=REGION, **keys)

    def run(self, case: Case, number: int) -> Outcome:
        """Run a case in buckets and directories of its own."""
        buckets = {role: f"{self.name}-{number}-{role}" for role in ROLES}
        where = {"LocationConstraint": REGION}
        for bucket in buckets.values():
            self._s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        for key, given in case.objects.items():
            self._s3.put_object(Bucket=buckets["in"], Key=key, **given)
        out = f"/{self.name}/{number}/out"
        self._ssm.put_parameter(Name=out, Value=buckets["out"], Type="SecureString")
        with tempfile.TemporaryDirectory() as name:
            folder, here = Path(name, "configuration"), Path(name, "here")
            folder.mkdir()
            here.mkdir()
            for file, data in case.files.items():
                (here / file).write_bytes(data)
            variables = {
                "IN": buckets["in"],
                "OUT": f"{{{{ lookup('aws.ssm', name='{out}') }}}}",
                "ARCHIVE": buckets["archive"],
                "HERE": str(here),
            }
            (folder / "variables.json.j2").write_text(json.dumps(variables))
            (folder / "task.json.j2").write_text(json.dumps(case.definition))
            begun = time.perf_counter()
            done = subprocess.run(  # task-run of either environment
                [str(self._command), "-t", "task", "-c", str(folder)],
                env=environment(self._url, OTF_STAGING_DIR=name),
                capture_output=True,
                check=False,
            )
            seconds = time.perf_counter() - begun
            files = {f"here/{file.name}": file.read_bytes() for file in here.iterdir()}
        objects: dict[str, Any] = dict(files)
        acl: dict[str, Any] = {}
        for role, bucket in buckets.items():
            for each in self._s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
                place = f"{role}/{each['Key']}"
                objects[place] = self._shape(bucket, each["Key"])
                acl[place] = self._acl(bucket, each["Key"])
        return Outcome(done.returncode, objects, acl, seconds)

    def _shape(self, bucket: str, key: str) -> Any:
        answer = self._s3.get_object(Bucket=bucket, Key=key)
        tags = self._s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        kept = ("ContentType", "Metadata", "StorageClass")
        return answer["Body"].read(), {name: answer.get(name) for name in kept}, tags

    def _acl(self, bucket: str, key: str) -> Any:
        try:
            grants = self._s3.get_object_acl(Bucket=bucket, Key=key)["Grants"]
        except ClientError:
            return "none"  # moto's answer is 500 for an object in parts that was given no ACL
        return sorted((grant["Grantee"].get("ID", ""), grant["Permission"]) for grant in grants)


def differences(ours: Outcome, theirs: Outcome) -> dict[str, str]:
    """What differs, and in which way."""
    found = {}
    if ours.exit != theirs.exit:
        found["exit"] = f"{ours.exit} and {theirs.exit}"
    for what in WHAT[1:]:
        mine, others = getattr(ours, what), getattr(theirs, what)
        if mine != others:
            places = [place for place in {**mine, **others} if mine.get(place) != others.get(place)]
            found[what] = ", ".join(sorted(places))
    return found


def cell(found: str | None, meant: str | None) -> str:
    """What the table says of a difference."""
    if found is None:
        return "same"
    return f"**{found}**" if meant is None else f"{found}: {meant}"


def wrong(found: Mapping[str, str], meant: Mapping[str, str]) -> bool:
    """Whether there is another difference than those that are meant."""
    return found.keys() != meant.keys() or NOT_SEEN in found.values()


def compare_storage() -> int:
    """Run the cases on moto, and print what was the same; the number of unexpected ones."""
    unexpected = 0
    print("| definition | exit | objects and metadata | ACLs | s, aiohaul | s, reference |")
    print("|---|---|---|---|---|---|")
    with moto() as url:
        sides = [Side("ours", Path(sys.executable), url), Side("ref", reference_python(), url)]
        for number, case in enumerate(CASES):
            ours, theirs = (side.run(case, number) for side in sides)
            found = differences(ours, theirs)
            found |= {what: NOT_SEEN for what in case.differs if what not in found}
            cells = [cell(found.get(what), case.differs.get(what)) for what in WHAT]
            unexpected += wrong(found, case.differs)
            seconds = f"{ours.seconds:.1f} | {theirs.seconds:.1f}"
            print(f"| {case.name} ({ours.exit}) | {' | '.join(cells)} | {seconds} |", flush=True)
    return unexpected


def compare_compute() -> int:
    """Run functions, tasks and batches, as ``compare_storage`` does."""
    unexpected = 0
    print("\n| definition | exit | requests | output | s, aiohaul | s, reference |")
    print("|---|---|---|---|---|---|")
    pythons = Path(sys.executable), reference_python()
    for case in COMPUTE_CASES:
        ours, theirs = (asyncio.run(compute_cases.run(case, python)) for python in pythons)
        found = compute_cases.differences(ours, theirs)
        found |= {what: NOT_SEEN for what in case.differs if what not in found}
        cells = [cell(found.get(what), case.differs.get(what)) for what in COMPARED]
        unexpected += wrong(found, case.differs)
        seconds = f"{ours.seconds:.1f} | {theirs.seconds:.1f}"
        print(f"| {case.name} ({ours.exit}) | {' | '.join(cells)} | {seconds} |", flush=True)
    return unexpected


def main() -> None:
    """Run every case with both; ``--compute`` runs those of functions and tasks alone."""
    unexpected = compare_compute()
    count = len(COMPUTE_CASES)
    if "--compute" not in sys.argv:
        unexpected += compare_storage()
        count += len(CASES)
    print(f"{count} definitions, {unexpected} with a difference that is not meant")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
