"""Lists, checks and reads local files, in threads."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from aiohaul.errors import LocalFileError
from aiohaul.regexes.bounded import bounded
from aiohaul.resource_limits import os_error_reason
from aiohaul.s3.compact import Block, CompactSequence
from aiohaul.storage.directories import DirectoryId, directory_id
from aiohaul.storage.private_files import PARTIAL_NAME, file_type
from aiohaul.threads import run_in_thread

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One version of a local file, from a listing of the directory.

    Attributes:
        path: the path of the file.
        size: the size in bytes.
        last_modified: the modification time, in UTC.
        version: the inode, the size and the modification time in nanoseconds. They change if the
            file is written or replaced.
        root: the directory below which copies keep the path, if the file was found at any depth;
            else None. It is not compared.
    """

    path: Path
    size: int
    last_modified: datetime
    version: tuple[int, int, int]
    root: Path | None = field(default=None, compare=False, repr=False)

    @property
    def folder(self) -> str:
        """The path between ``root`` and the file name, such as ``2026/``, or ""."""
        if self.root is None or self.path.parent == self.root:
            return ""
        return f"{self.path.parent.relative_to(self.root).as_posix()}/"

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.name

    @property
    def uri(self) -> str:
        """The path as a string, which errors and reports use."""
        return str(self.path)

    @property
    def version_text(self) -> str:
        """The version as a string."""
        return "-".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class _FileBlock(Block[LocalFile]):
    """Files of one directory, stored as one tuple per field."""

    directory: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    inodes: tuple[int, ...]
    times: tuple[int, ...]
    root: Path | None = None

    @property
    def size(self) -> int:
        """The total size in bytes."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[LocalFile]:
        return map(self.__getitem__, range(len(self.names)))

    def __getitem__(self, index: int) -> LocalFile:
        path = Path(self.directory, self.names[index])
        return _local_file(
            path, self.inodes[index], self.sizes[index], self.times[index], self.root
        )


async def list_files(
    directory: str,
    pattern: re.Pattern[str],
    *,
    follow_links: bool = True,
    recursive: bool = False,
) -> Sequence[LocalFile]:
    """List the files of a directory whose names match.

    The list is empty if the directory does not exist. Temporary files of aiohaul are omitted.

    Args:
        directory: the path of the directory, which may be a link.
        pattern: a regex, matched from the start of a name.
        follow_links: True lists a link as the file or directory to which it leads; False omits
            links.
        recursive: True lists the files of all subdirectories too, with ``directory`` as ``root``.

    Raises:
        LocalFileError: the directory, or a file whose name matches, cannot be read.
    """
    if recursive:
        return await run_in_thread(
            _list_tree, directory, pattern, follow_links, abandon_on_cancel=True
        )
    return await run_in_thread(
        _list_files, directory, pattern, follow_links, abandon_on_cancel=True
    )


def _list_files(
    directory: str, pattern: re.Pattern[str], follow_links: bool
) -> Sequence[LocalFile]:
    return CompactSequence([_block(directory, _names(directory), pattern, follow_links)])


def _list_tree(directory: str, pattern: re.Pattern[str], follow_links: bool) -> Sequence[LocalFile]:
    """List a directory and its subdirectories. A link to a directory above itself is omitted."""
    blocks: list[_FileBlock] = []
    # Each directory, with the identities of those above it.
    remaining: list[tuple[str, frozenset[DirectoryId]]] = [(directory, frozenset())]
    while remaining:
        path, above = remaining.pop()
        names = _names(path)
        if not names:
            continue
        with os_errors("listing", path):
            inside = above | {directory_id(Path(path))}
        blocks.append(replace(_block(path, names, pattern, follow_links), root=Path(directory)))
        for name in reversed(names):
            below = Path(path, name)
            status = _status(below, follow_links=follow_links)
            if status is None or not stat.S_ISDIR(status.st_mode):
                continue
            if (status.st_dev, status.st_ino) in inside:
                _log.warning("skipped %s, because the link leads to a directory above it", below)
            else:
                remaining.append((str(below), inside))
    return CompactSequence(blocks)


def _names(directory: str) -> list[str]:
    with os_errors("listing", directory):
        try:
            return sorted(os.listdir(directory))  # noqa: PTH208  # most names need no stat
        except FileNotFoundError:
            return []


def _block(
    directory: str, names: Iterable[str], pattern: re.Pattern[str], follow_links: bool
) -> _FileBlock:
    matches, rows = bounded(pattern).matches_name, []
    for name in names:
        if matches(name) and not PARTIAL_NAME.fullmatch(name):
            status = _status(Path(directory, name), follow_links=follow_links)
            if status is not None and stat.S_ISREG(status.st_mode):
                rows.append((name, status.st_size, status.st_ino, status.st_mtime_ns))
    return _FileBlock(directory, *(zip(*rows, strict=True) if rows else ((), (), (), ())))


def _is_link(path: Path) -> bool:
    """Return True if the path is a link; False if there is nothing."""
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _status(path: Path, *, follow_links: bool) -> os.stat_result | None:
    """Return the status of a listed file; None if the file is gone or the link is broken."""
    try:
        with os_errors("reading", path):
            return path.stat(follow_symlinks=follow_links)
    except LocalFileError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ELOOP:
            _log.warning("skipped %s, because the links form a loop", path)
        elif not isinstance(cause, FileNotFoundError):
            raise
        elif _is_link(path):
            _log.warning("skipped %s, because it is a link to a file that does not exist", path)
        return None


def stat_file(path: Path, directory: int | None = None) -> LocalFile:
    """Read the version of one file (stat). Blocks.

    Args:
        path: the path of the file.
        directory: a descriptor of its directory; None finds the directory by its path.

    Raises:
        OSError: the file does not exist, or cannot be read.
    """
    status = path.stat() if directory is None else os.stat(path.name, dir_fd=directory)
    return local_file(path, status)


def local_file(path: Path, status: os.stat_result) -> LocalFile:
    """Return the version of a file from the result of a stat."""
    return _local_file(path, *_version(status))


def _local_file(
    path: Path, inode: int, size: int, time: int, root: Path | None = None
) -> LocalFile:
    modified = datetime.fromtimestamp(time / 1e9, UTC)
    return LocalFile(path, size, modified, version=(inode, size, time), root=root)


async def stat_files(paths: Iterable[Path]) -> list[LocalFile]:
    """Read the versions of files (stat).

    Raises:
        LocalFileError: a file does not exist, or cannot be read.
    """
    return await run_in_thread(_stat_files, list(paths), abandon_on_cancel=True)


def _stat_files(paths: list[Path]) -> list[LocalFile]:
    files = []
    for path in paths:
        with os_errors("reading", path):
            files.append(stat_file(path))
    return files


async def find_file(path: Path) -> LocalFile | None:
    """Return the version of the file at a path (stat), or None if no file exists there.

    Raises:
        LocalFileError: the file cannot be read.
    """
    try:
        return (await stat_files([path]))[0]
    except LocalFileError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


async def read_part(file: LocalFile, start: int, size: int) -> bytes:
    """Read ``size`` bytes of this version of a file, from the offset ``start``.

    Raises:
        LocalFileError: the file cannot be read, or has changed since it was listed.
    """
    return await run_in_thread(_read_part, file, start, size, abandon_on_cancel=True)


def _read_part(file: LocalFile, start: int, size: int) -> bytes:
    with os_errors("reading", file.path), opened_version(file) as descriptor:
        data = os.pread(descriptor, size, start)
        while len(data) < size and (
            chunk := os.pread(descriptor, size - len(data), start + len(data))
        ):
            data += chunk
        if len(data) != size or _version(os.fstat(descriptor)) != file.version:
            raise _changed(file)
        return data


@contextmanager
def opened_version(file: LocalFile) -> Iterator[int]:
    """Open this version of a file for reading. Blocks, but never on a FIFO or a device.

    Yields:
        The file descriptor.

    Raises:
        LocalFileError: the path has another file or version now, or no regular file.
        OSError: the file cannot be opened.
    """
    # Links are followed, as in the listing. The version shows whether it is the same file.
    descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or _version(status) != file.version:
            raise _changed(file)
        yield descriptor
    finally:
        os.close(descriptor)


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _changed(file: LocalFile) -> LocalFileError:
    return LocalFileError(
        f"reading {file.path} failed: the file changed during the copy. Run again when the file is"
        " complete"
    )


async def check_directory(directory: Path, *, create: bool) -> DirectoryId:
    """Check that a directory exists, or create it, and return its identity.

    Raises:
        LocalFileError: the directory does not exist and ``create`` is False, cannot be created or
            read, or is not a directory.
    """
    return await run_in_thread(_check_directory, directory, create)


def _check_directory(directory: Path, create: bool) -> DirectoryId:
    with os_errors("reading", directory):
        if create:
            directory.mkdir(parents=True, exist_ok=True)
        if file_type(directory) != stat.S_IFDIR:
            raise LocalFileError(
                f"{directory} is not a directory. Create it, or set create=True (in a definition:"
                " createDirectoryIfNotExists)"
            )
        return directory_id(directory)


@contextmanager
def os_errors(doing: str, path: str | Path) -> Iterator[None]:
    """Translate an OSError into a LocalFileError that names the action and the path.

    Args:
        doing: the action, such as ``reading``.
        path: the path in the message.

    Raises:
        LocalFileError: the operating system refused the action.
    """
    try:
        yield
    except OSError as error:
        raise LocalFileError(f"{doing} {path} failed: {os_error_reason(error)}") from error
    except ValueError as error:  # a NUL in the path
        raise LocalFileError(f"{doing} {path!r} failed: {error}") from error
