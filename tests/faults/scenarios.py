"""The operations that the campaign is about: each one a definition, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.support.fake_s3 import content
from tests.support.quick import PART
from tests.support.world import Scenario, State, World

#: A part and more that S3 copies in one request; more than two parts.
MIDDLE = content(3, PART + 1000)
LARGE = content(5, 2 * PART + 1000)
FILES = {"empty": b"", "large": LARGE, "middle": MIDDLE, "small": b"small"}


def transfer(world: World, files: Mapping[str, bytes] = FILES) -> Scenario:
    """Everything at once: parts, the tee, three destinations, flags, a move across buckets."""
    home, away = (world.protocol(front) for front in world.fronts)
    definition = {
        "type": "transfer",
        "source": {
            "bucket": "inbox",
            "directory": "src",
            "fileRegex": ".*",
            "postCopyAction": {"action": "move", "destination": "s3://archive/done/"},
            "protocol": home,
        },
        "destination": [
            {
                "bucket": "direct",
                "directory": "in",
                "rename": {"pattern": "$", "sub": ".dat"},
                "flags": {"fullPath": "all.flg"},
                "protocol": home,
            },
            {"bucket": "partner", "flags": {"fullPath": "flags/all.flg"}, "protocol": away},
            {"directory": str(world.target), "protocol": {"name": "local"}},
        ],
    }
    start = {f"s3://inbox/src/{name}": data for name, data in files.items()}
    start["s3://inbox/src/below/stays"] = b"not meant"
    return Scenario(
        "transfer",
        definition,
        start,
        {
            f"s3://inbox/src/{name}": (
                f"s3://direct/in/{name}.dat",
                f"s3://partner/{name}",
                str(world.target / name),
                f"s3://archive/done/{name}",
            )
            for name in files
        },
        {
            "s3://direct/all.flg": [f"s3://direct/in/{name}.dat" for name in files],
            "s3://partner/flags/all.flg": [f"s3://partner/{name}" for name in files],
        },
    )


def upload(world: World, files: Mapping[str, bytes] = FILES) -> Scenario:
    """Local files to two servers, and then away."""
    directory = world.inbox
    home, away = (world.protocol(front) for front in world.fronts)
    definition = {
        "type": "transfer",
        "source": {
            "directory": str(directory),
            "fileRegex": ".*",
            "protocol": {"name": "local"},
            "postCopyAction": {"action": "delete"},
        },
        "destination": [
            {"bucket": "direct", "flags": {"fullPath": "all.flg"}, "protocol": home},
            {"bucket": "partner", "directory": "in", "protocol": away},
        ],
    }
    return Scenario(
        "upload",
        definition,
        {str(directory / each): data for each, data in files.items()},
        {
            str(directory / each): (f"s3://direct/{each}", f"s3://partner/in/{each}")
            for each in files
        },
        {"s3://direct/all.flg": [f"s3://direct/{each}" for each in files]},
    )


def download(world: World, files: Mapping[str, bytes] = FILES) -> Scenario:
    """Objects to a directory, over files of these names, and then away."""
    home = world.protocol(world.fronts[0])
    definition = {
        "type": "transfer",
        "source": {
            "bucket": "inbox",
            "directory": "src",
            "fileRegex": ".*",
            "postCopyAction": {"action": "delete"},
            "protocol": home,
        },
        "destination": [{"directory": str(world.target), "protocol": {"name": "local"}}],
    }
    start: State = {f"s3://inbox/src/{name}": data for name, data in files.items()}
    return Scenario(
        "download",
        definition,
        start,
        {f"s3://inbox/src/{name}": (str(world.target / name),) for name in files},
    )


def touch(world: World) -> Scenario:
    """An empty object."""
    home = world.protocol(world.fronts[0])
    definition = {"type": "execution", "bucket": "direct", "key": "a/flag", "protocol": home}
    return Scenario("touch", definition, {}, {}, {"s3://direct/a/flag": []})


ALL: dict[str, Callable[..., Scenario]] = {
    each.__name__: each for each in (transfer, upload, download, touch)
}
