"""What is found out about otf-addons-aws, which installs files of the same names."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

from aiohaul import blocking, installed

HANDLER = "opentaskpy/addons/aws/remotehandlers/s3.py"
LOOKUP = "opentaskpy/plugins/lookup/aws/ssm.py"
REINSTALL = "`pip install --force-reinstall --no-deps aiohaul`"
BOTH = f"Run `pip uninstall otf-addons-aws`, then {REINSTALL}"


class Site:
    """A directory that Python imports from, with packages that look installed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> str:
        """Write a file, and return its line for a RECORD."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        hashed = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"{path},sha256={hashed.rstrip('=')},{len(text)}"

    def describe(self, name: str, version: str, record: list[str] | None) -> None:
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        self.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if record is not None:
            self.write(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))

    def install_ours(self) -> None:
        code = Path(installed.__file__).read_text()
        record = [
            self.write("aiohaul/__init__.py", ""),
            self.write("aiohaul/installed.py", code),
            *(self.write(path, "ours") for path in (HANDLER, LOOKUP)),
            f"{HANDLER.replace('s3.py', '__pycache__/s3.cpython-311.pyc')},,",
        ]
        self.describe("aiohaul", "0.1.0", record)

    def install_peer(
        self, name: str = "otf-addons-aws", paths: tuple[str, ...] = (HANDLER,)
    ) -> None:
        self.describe(name, "26.18.0", [self.write(path, "the other's") for path in paths])

    def find(self, *before: Path, after: tuple[Path, ...] = ()) -> str | None:
        return found(*before, self.root, *after)


def found(*path: Path) -> str | None:
    """What another Python finds, which has these places alone and nothing of this one's."""
    code = (
        f"import sys; sys.path[:0] = {[str(place) for place in path]}\n"
        "import json; from aiohaul.installed import find_problem\n"
        "print(json.dumps(find_problem()))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    problem: str | None = json.loads(done.stdout)
    return problem


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path / "site")
    made.install_ours()
    return made


def test_nothing_to_say_of_a_sound_installation(site: Site) -> None:
    assert site.find() is None


def test_the_other_was_installed_last(site: Site) -> None:
    site.install_peer(paths=(HANDLER, LOOKUP))
    assert site.find() == (
        "2 files of aiohaul's handlers for Open Task Framework are missing or changed, such as"
        f" {HANDLER}, and otf-addons-aws 26.18.0 has files of the same names. {BOTH}"
    )


def test_the_other_was_installed_first(site: Site) -> None:
    site.install_peer()
    site.install_ours()
    assert site.find() == (
        "otf-addons-aws 26.18.0 has files of the same names as aiohaul's handlers for Open Task"
        " Framework, so Open Task Framework may run the handlers of otf-addons-aws, and"
        f" uninstalling otf-addons-aws may remove aiohaul's files. {BOTH}"
    )


def test_the_other_was_uninstalled_and_took_files_along(site: Site) -> None:
    (site.root / HANDLER).unlink()
    assert site.find() == (
        "1 files of aiohaul's handlers for Open Task Framework are missing or changed, such as"
        f" {HANDLER}. Run {REINSTALL}"
    )


def test_whole_directories_are_gone(site: Site) -> None:
    (site.root / LOOKUP).unlink()
    (site.root / LOOKUP).parent.rmdir()
    (site.root / LOOKUP).parent.parent.rmdir()
    assert LOOKUP in (site.find() or "")


def test_a_fork_of_the_other_is_found_by_what_it_owns(site: Site) -> None:
    site.describe("unrelated", "1", [site.write("unrelated.py", "")])
    site.install_peer("our-aws-addon")
    assert f"Run `pip uninstall our-aws-addon`, then {REINSTALL}" in (site.find() or "")


def test_a_name_alone_is_no_conflict(site: Site) -> None:
    site.install_peer(paths=("opentaskpy/addons/aws/new.py",))
    assert site.find() is None


def test_the_other_is_searched_first(site: Site, tmp_path: Path) -> None:
    """As one in the user's site is, with ours in the system's."""
    other = Site(tmp_path / "user")
    other.install_peer()
    assert BOTH in (site.find(other.root) or "")


def test_the_other_is_searched_later(site: Site, tmp_path: Path) -> None:
    """As one of the system is from a virtual environment: its own is found first."""
    other = Site(tmp_path / "system")
    other.install_peer()
    assert site.find(after=(other.root,)) is None


@pytest.mark.parametrize("name", ["sha256", "none", "other"])
def test_hashes_that_installers_write(site: Site, name: str) -> None:
    record = next(site.root.glob("aiohaul-*/RECORD"))
    lines = [line.split(",") for line in record.read_text().splitlines()]
    if name == "none":
        record.write_text("".join(f"{path},,\n" for path, _, _ in lines))
    elif name == "other":
        record.write_text("".join(f"{path},md5=0,1\n" for path, _, _ in lines))
    assert site.find() is None
    (site.root / HANDLER).write_text("changed")
    assert (HANDLER in (site.find() or "")) is (name == "sha256")
    (site.root / HANDLER).unlink()
    assert HANDLER in (site.find() or "")


def test_no_record(site: Site) -> None:
    next(site.root.glob("aiohaul-*/RECORD")).unlink()
    (site.root / HANDLER).unlink()
    assert site.find() is None


def test_a_record_that_is_not_text(site: Site) -> None:
    next(site.root.glob("aiohaul-*/RECORD")).write_bytes(b"\xff\xfe,,\n")
    assert site.find() is None


def test_no_metadata(site: Site) -> None:
    info = next(site.root.glob("aiohaul-*"))
    info.rename(site.root / "gone")
    site.install_peer()
    assert site.find() is None


def test_editable_install(site: Site, tmp_path: Path) -> None:
    """Its code is elsewhere, and its RECORD knows no handler."""
    code = Site(tmp_path / "src")
    code.install_ours()
    next(code.root.glob("aiohaul-*")).rename(tmp_path / "unused")
    shutil.rmtree(site.root / "aiohaul")
    next(site.root.glob("aiohaul-*/RECORD")).write_text("_aiohaul.pth,,\n")
    site.install_peer()
    assert site.find(after=(code.root,)) is None


def test_another_copy_runs_than_the_one_that_was_installed(site: Site, tmp_path: Path) -> None:
    code = Site(tmp_path / "src")
    code.install_ours()
    next(code.root.glob("aiohaul-*")).rename(tmp_path / "unused")
    (site.root / HANDLER).unlink()
    assert site.find(code.root) is None


def test_without_sources(site: Site) -> None:
    """``compileall -b``, and the sources deleted."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", str(site.root)], check=True)
    for file in site.root.rglob("*.py"):
        file.unlink()
    assert site.find() is None


def test_files_that_are_links(site: Site, tmp_path: Path) -> None:
    """As uv can install them."""
    for file in list(site.root.rglob("*.py")):
        kept = tmp_path / "cache" / file.relative_to(site.root)
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.rename(kept)
        file.symlink_to(kept)
    assert site.find() is None
    site.install_peer()
    assert BOTH in (site.find() or "")


def test_a_site_behind_a_link(site: Site, tmp_path: Path) -> None:
    link = tmp_path / "lib64"
    link.symlink_to(site.root)
    assert found(link) is None
    site.install_peer()
    assert BOTH in (found(link) or "")


@pytest.mark.parametrize("conflict", [False, True])
def test_in_an_archive(site: Site, tmp_path: Path, conflict: bool) -> None:
    if conflict:
        site.install_peer()
        (site.root / LOOKUP).unlink()
    archive = tmp_path / "application.pyz"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(site.root.rglob("*")):
            packed.write(file, file.relative_to(site.root))
    problem = found(archive)
    assert (problem is not None) is conflict
    assert (BOTH in (problem or "")) is conflict


def test_a_file_that_cannot_be_read(site: Site) -> None:
    (site.root / HANDLER).unlink()
    (site.root / HANDLER).mkdir()
    assert site.find() is None


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> str:
    """Something is wrong with the installation of a process that has not looked yet."""
    monkeypatch.setattr(installed, "find_problem", lambda: "two of them")
    monkeypatch.setattr(installed, "_calls", itertools.count())
    return "two of them"


def test_warned_once(problem: str) -> None:
    with pytest.warns(UserWarning, match=problem):
        installed.warn_once()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        installed.warn_once()


async def _nothing(_: object) -> None:
    pass


def test_the_loop_of_blocking_calls_warns_as_it_starts(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "_current", None)
    with pytest.warns(UserWarning, match=problem):
        blocking.call(_nothing)
    started = blocking._current
    blocking.call(_nothing)  # an error of the test if it warns
    assert started is not None
    started.loop.call_soon_threadsafe(started.loop.stop)
    started.thread.join()


def test_a_warning_that_is_an_error_does_not_break_what_comes_after(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "_current", None)
    with pytest.raises(UserWarning, match=problem):
        blocking.call(_nothing)
    blocking.call(_nothing)
    started = blocking._current
    assert started is not None
    started.loop.call_soon_threadsafe(started.loop.stop)
    started.thread.join()


MODULES = [
    "opentaskpy.addons.aws.remotehandlers.s3",
    "opentaskpy.addons.aws.remotehandlers.lambda",
    "opentaskpy.addons.aws.remotehandlers.ecsfargate",
    "opentaskpy.plugins.lookup.aws.ssm",
    "opentaskpy.plugins.lookup.aws.secrets_manager",
    "opentaskpy.variablecaching.aws.vc_ssm",
    "opentaskpy.variablecaching.aws.vc_secretsmanager",
]


def test_what_otf_imports_warns() -> None:
    code = f"""
import importlib, itertools, sys, warnings
from aiohaul import installed
installed.find_problem = lambda: "two of them"
for name in {MODULES}:
    for module in [each for each in sys.modules if each.startswith("opentaskpy.addons.aws")]:
        del sys.modules[module]
    installed._calls = itertools.count()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        importlib.import_module(name)
    assert [str(each.message) for each in caught] == ["two of them"], (name, caught)
"""
    environment = {**os.environ, "OTF_NO_LOG": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_what_is_looked_at_is_quick_to_import() -> None:
    code = "import sys; import aiohaul.installed; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {each for each in done.stdout.split() if each.startswith("aiohaul")} == {
        "aiohaul",
        "aiohaul.installed",
    }
    assert not {"asyncio", "ssl", "botocore"} & set(done.stdout.split())
