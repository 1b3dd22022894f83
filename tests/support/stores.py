"""S3 stores that others wrote, each as its users run it, with its data in a directory of its own.

They listen on free ports of 127.0.0.1, and are ended by the ids of their processes. AIOHAUL_STORES
names those that tests run on, separated by commas or spaces.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Self
from uuid import uuid4

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from tests.support import servers
from tests.support.servers import KEY, REGION, SECRET, script

#: What the tests of stores run on where nothing is asked for.
DEFAULT = "seaweedfs"
#: Seconds in which a store has to be ready.
_PATIENCE = 180.0


class NotReadyError(Exception):
    """A store does not start. A test that needs it fails."""


class StoreServer(ABC):
    """A store that runs.

    Args:
        directory: for all that it writes.
    """

    #: in AIOHAUL_STORES, and for people
    name: ClassVar[str]
    title: ClassVar[str]
    needs_ports: ClassVar[int] = 1
    #: its data are still there once it is started again
    can_be_killed: ClassVar[bool] = True
    #: listings show the folders in which objects were, as empty objects
    shows_folders: ClassVar[bool] = False
    #: it has other services of AWS, too
    is_cloud: ClassVar[bool] = False
    #: buckets can keep versions
    has_versions: ClassVar[bool] = True
    #: buckets are made where the store is, without a region of their own
    has_regions: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = free_ports(self.needs_ports)
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._server: subprocess.Popen[bytes] | None = None

    @cached_property
    def version(self) -> str:
        """Its release, as it says it."""
        return self.find_version()

    @abstractmethod
    def find_version(self) -> str:
        """Ask for its release."""

    @abstractmethod
    def command(self) -> list[str]:
        """What answers S3 requests, in the foreground."""

    def prepare(self) -> None:  # noqa: B027  # not every one needs it
        """What is done once, before the first start."""

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> None:
        self.prepare()
        self.serve()

    def serve(self) -> None:
        """Start what answers S3 requests, on the data that are there."""
        self._server = self._spawn(self.command())
        self._wait_until_ready(self._server)

    def kill(self) -> None:
        """End it by SIGKILL; its data stay."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()
        self._server = None

    def close(self) -> None:
        """End all its processes. Nobody needs its data any more."""
        for process in (*filter(None, [self._server]), *self._helpers):
            process.kill()
            process.wait()

    def run(self, *command: str) -> str:
        """Run a command to its end, and return what it prints."""
        done = subprocess.run(
            command,
            env=self._environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
        if done.returncode:
            raise NotReadyError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def help_with(self, *command: str) -> None:
        """Start a process that the store needs beside the one that answers."""
        self._helpers.append(self._spawn(list(command)))

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.directory), **self.environment()}

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _PATIENCE
        reason = "it does not answer"
        while time.monotonic() < until and process.poll() is None:
            try:
                self.try_out()
            except (OSError, BotoCoreError, ClientError) as error:
                reason = str(error)
                time.sleep(0.2)
            else:
                return
        log = (self.directory / "log").read_text(errors="replace")[-2000:]
        raise NotReadyError(f"{self.title} is not ready ({reason}): {log}")

    def try_out(self) -> None:
        """Raise unless objects can be written now."""
        client = Session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
        )
        try:
            bucket = f"ready-{uuid4().hex[:12]}"
            where = {"LocationConstraint": REGION}
            client.create_bucket(
                Bucket=bucket, **({"CreateBucketConfiguration": where} if self.has_regions else {})
            )
            client.put_object(Bucket=bucket, Key="a", Body=b"a")
            client.delete_object(Bucket=bucket, Key="a")
            client.delete_bucket(Bucket=bucket)
        finally:
            client.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SeaweedFS(StoreServer):
    name = "seaweedfs"
    title = "SeaweedFS"
    needs_ports = 8

    def find_version(self) -> str:
        return _version_in(self.run(script("weed"), "version"))

    def prepare(self) -> None:
        keys = {"accessKey": KEY, "secretKey": SECRET}
        who = {
            "name": "tests",
            "credentials": [keys],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        (self.directory / "s3.json").write_text(json.dumps({"identities": [who]}))
        (self.directory / "data").mkdir()

    def command(self) -> list[str]:
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = self.ports
        return [
            *(script("weed"), "server", f"-dir={self.directory / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-master.port={master}", f"-master.port.grpc={master_grpc}"),
            *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}"),
            *(f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
            *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            f"-s3.config={self.directory / 's3.json'}",
            *("-master.volumeSizeLimitMB=256", "-volume.max=1000"),
        ]

    def environment(self) -> dict[str, str]:
        # Every bucket has volumes of its own: one, and not seven.
        return {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


class JuiceFS(StoreServer):
    """MinIO's S3, on a file system that keeps its names in SQLite."""

    name = "juicefs"
    title = "MinIO (juicefs gateway)"
    has_versions = False
    shows_folders = True

    def find_version(self) -> str:
        return _version_in(self.run(script("juicefs"), "version"))

    @property
    def _names(self) -> str:
        return f"sqlite3://{self.directory / 'names.db'}"

    def prepare(self) -> None:
        data = ("--storage", "file", "--bucket", str(self.directory / "data"))
        self.run(script("juicefs"), "format", self._names, "tests", *data)

    def environment(self) -> dict[str, str]:
        return {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}

    def command(self) -> list[str]:
        return [
            *(script("juicefs"), "gateway", self._names, f"127.0.0.1:{self.ports[0]}"),
            *("--multi-buckets", "--keep-etag", "--object-tag", "--object-meta"),
            *("--no-usage-report", "--cache-dir", str(self.directory / "cache")),
        ]


class Ceph(StoreServer):
    """radosgw on a cluster of one node, with its data in memory.

    AIOHAUL_CEPH_ROOT names a directory that has another system in it, with another release.
    """

    name = "ceph"
    title = "Ceph (radosgw)"
    needs_ports = 12
    has_regions = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._root = Path(os.environ.get("AIOHAUL_CEPH_ROOT", "/"))
        #: the directory as Ceph's own processes see it
        self._there = Path("/", directory.relative_to(self._root))
        self._configuration = ("-c", str(self._there / "ceph.conf"))

    def find_version(self) -> str:
        return _version_in(self.run(*self._program("radosgw", "--version")))

    def _program(self, name: str, *arguments: str) -> list[str]:
        inside = [] if self._root == Path("/") else ["chroot", str(self._root)]
        if not inside and shutil.which(name) is None:
            raise NotReadyError(
                f"{name} is not installed: Debian has it in radosgw ceph-mon ceph-osd ceph-common"
            )
        return [*inside, name, *arguments]

    def _ceph(self, name: str, *arguments: str) -> list[str]:
        return self._program(name, *self._configuration, *arguments)

    def prepare(self) -> None:
        there, fsid = self._there, str(uuid4())
        _, monitor, *others = self.ports
        for name in ("mon", "osd", "run"):
            (self.directory / name).mkdir()
        (self.directory / "keyring").touch()
        (self.directory / "ceph.conf").write_text(
            _CEPH.format(
                there=there,
                fsid=fsid,
                monitor=monitor,
                s3=self.ports[0],
                lowest=min(others),
                highest=max(others),
            )
        )
        names = str(there / "monitors")
        address = f"[v1:127.0.0.1:{monitor}]"
        self.run(
            *self._program("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, names)
        )
        self.run(*self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", names))
        self.help_with(*self._ceph("ceph-mon", "-f", "-i", "a"))
        self.run(*self._ceph("ceph", "osd", "create"))
        self.run(*self._ceph("ceph-osd", "-i", "0", "--mkfs"))
        disk = self._ceph("ceph-osd", "-f", "-i", "0")
        self.help_with(*disk)
        until = time.monotonic() + _PATIENCE
        while not self._is_up():
            if time.monotonic() > until:
                raise NotReadyError("Ceph's disk does not come up")
            time.sleep(0.2)
            if self._helpers[-1].poll() is not None:  # it was too early for the monitor
                self.help_with(*disk)
        keys = (f"--access-key={KEY}", f"--secret-key={SECRET}")
        user = ("user", "create", "--uid=tests", "--display-name=tests", *keys)
        self.run(*self._ceph("radosgw-admin", "-n", "client.rgw", *user))

    def _is_up(self) -> bool:
        try:
            return "1 up" in self.run(*self._ceph("ceph", "osd", "stat"))
        except NotReadyError:  # 18.2 refuses questions until it has begun
            return False

    def command(self) -> list[str]:
        return self._ceph("radosgw", "-f", "-n", "client.rgw")


class LocalStack(StoreServer):
    """AIOHAUL_LOCALSTACK names the Python that it is installed for: its pins meet no others."""

    name = "localstack"
    title = "LocalStack"
    can_be_killed = False
    is_cloud = True

    def find_version(self) -> str:
        with urllib.request.urlopen(f"{self.url}/_localstack/health") as answer:
            return str(json.load(answer)["version"])

    def environment(self) -> dict[str, str]:
        here = f"127.0.0.1:{self.ports[0]}"
        return {
            "GATEWAY_LISTEN": here,
            "LOCALSTACK_HOST": here,
            "ACTIVATE_PRO": "0",
            "SERVICES": "s3,sqs,sns,sts,ssm,secretsmanager,events,logs,iam,kms",
            "SQS_ENDPOINT_STRATEGY": "path",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DISABLE_EVENTS": "1",
            "DNS_ADDRESS": "0",
            "FILESYSTEM_ROOT": str(self.directory / "data"),
        }

    def command(self) -> list[str]:
        python = os.environ.get("AIOHAUL_LOCALSTACK", sys.executable)
        return [python, "-m", "localstack.runtime.main"]


class Moto(StoreServer):
    name = "moto"
    title = "moto"
    can_be_killed = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._stack = ExitStack()

    def find_version(self) -> str:
        return metadata.version("moto")

    def command(self) -> list[str]:
        raise NotImplementedError

    def serve(self) -> None:
        self.url = self._stack.enter_context(servers.moto())

    def close(self) -> None:
        self._stack.close()


class Rclone(Moto):
    name = "rclone"
    title = "rclone serve s3"
    has_versions = False

    def find_version(self) -> str:
        return _version_in(self.run(script("rclone"), "version"))

    def serve(self) -> None:
        self.url = self._stack.enter_context(servers.rclone(self.directory))


STORES: Mapping[str, type[StoreServer]] = {
    each.name: each for each in (SeaweedFS, JuiceFS, Ceph, LocalStack, Moto, Rclone)
}


def asked_for() -> list[str]:
    """The stores that AIOHAUL_STORES names."""
    names = os.environ.get("AIOHAUL_STORES", DEFAULT).replace(",", " ").split()
    unknown = set(names) - STORES.keys()
    if unknown or not names:
        raise NotReadyError(f"AIOHAUL_STORES names {unknown or 'nothing'}; there are {[*STORES]}")
    return names


@contextmanager
def running(name: str) -> Iterator[StoreServer]:
    """A store, with data of its own, which goes with them."""
    root = os.environ.get("AIOHAUL_CEPH_ROOT") if name == "ceph" else None
    with (
        tempfile.TemporaryDirectory(
            prefix="aiohaul-store-",
            dir=Path(root, "tmp") if root else None,
            ignore_cleanup_errors=True,
        ) as directory,
        STORES[name](Path(directory).resolve()) as store,
    ):
        yield store


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now, in ascending order."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return sorted(each.getsockname()[1] for each in sockets)


def _version_in(text: str) -> str:
    found = re.search(r"\d+\.\d+(?:\.\d+)?(?!\d*GB)", text)
    assert found, text
    return found[0]


_CEPH = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
ms bind port min = {lowest}
ms bind port max = {highest}
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
rgw rados pool pg num min = 4
run dir = {there}/run
admin socket = {there}/run/$name.$pid.asok
log file = {there}/run/$name.log
keyring = {there}/keyring
[mon.a]
mon data = {there}/mon
[osd.0]
osd data = {there}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{s3}
rgw thread pool size = 32
rgw dns name = localhost
"""
