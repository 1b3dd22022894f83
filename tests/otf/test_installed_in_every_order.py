"""aiohaul and otf-addons-aws, installed and uninstalled by pip in every order."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HANDLERS = "opentaskpy/addons/aws/remotehandlers"


class Environment:
    """A virtual environment that borrows aiohaul's dependencies from this one."""

    def __init__(self, directory: Path, wheels: Path) -> None:
        venv.create(directory, with_pip=True, symlinks=True)
        self.scripts = directory / "bin"
        self.wheels = wheels
        self.site = next(directory.glob("lib/python*/site-packages"))
        # Searched last, and not by pip: it would take what is in there for installed.
        code = "import os, sys; sys.path += os.environ.get('BORROWED', '').split()"
        (self.site / "borrowed.pth").write_text(code)

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.scripts / command[0], *command[1:]],
            check=True,
            capture_output=True,
            text=True,
            cwd=self.scripts,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more},
        )

    def pip(self, *arguments: str) -> None:
        """With the wheels that were built, and nothing else."""
        self.run("pip", *arguments, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.wheels))

    def problem(self) -> str:
        """What ``aiohaul --version`` says beside the version."""
        done = self.run("aiohaul", "--version", BORROWED=sysconfig.get_path("purelib"))
        assert done.stdout == f"{version('aiohaul')}\n"
        return done.stderr

    def follow(self, advice: str) -> None:
        for command in re.findall("`pip (.+?)`", advice):
            self.pip(*command.replace("uninstall", "uninstall -y").split())

    def is_ours(self) -> bool:
        return "aiohaul" in (self.site / HANDLERS / "s3.py").read_text()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv", tmp_path / "wheels")
    build = ("pip", "wheel", "--no-deps", "-w", str(made.wheels))
    made.run(*build, str(ROOT))
    made.run(*build, "otf-addons-aws")
    return made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_order(environment: Environment) -> None:
    environment.pip("install", "--no-deps", "otf-addons-aws")
    environment.pip("install", "--no-deps", "aiohaul")
    assert environment.is_ours()
    problem = environment.problem()
    assert "otf-addons-aws 2" in problem
    assert "uninstalling otf-addons-aws may remove aiohaul's" in problem
    environment.follow(problem)
    assert environment.is_ours()
    assert environment.problem() == ""

    environment.pip("install", "--no-deps", "otf-addons-aws")
    assert not environment.is_ours()
    problem = environment.problem()
    assert re.search("[0-9]+ files of aiohaul's handlers .* are missing or changed", problem)
    environment.follow(problem)
    assert environment.is_ours()
    assert environment.problem() == ""

    environment.pip("install", "--no-deps", "otf-addons-aws")
    environment.pip("uninstall", "-y", "otf-addons-aws")
    assert not (environment.site / HANDLERS / "s3.py").exists()
    problem = environment.problem()
    assert "are missing or changed" in problem
    assert "otf-addons-aws" not in problem
    environment.follow(problem)
    assert environment.is_ours()
    assert environment.problem() == ""
