"""The folder that holds all state of one service: its layout, its secret, and the lock that gives it one server.

What lies in `models`, `journal` and the database belongs to the rooms that write there. Every file made here is
readable by its owner only.
"""

import errno
import fcntl
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from hanlin.errors import StartupError
from hanlin.words import say

SECRET_BYTES = 32

PATH_LIMIT_BYTES = 400
"""Longest path of a home. SQLite opens no path beyond 512 bytes, and its own suffixes and backups need room."""

_log = logging.getLogger(__name__)

_LOCK_PAUSE_S = 0.05

_REASONS = {
    errno.EACCES: ("this user has no right to write there; change the owner", "当前用户无写入权限；请更改所有者"),
    errno.EPERM: ("this user has no right to write there; change the owner", "当前用户无写入权限；请更改所有者"),
    errno.EROFS: ("the file system is read-only; mount it writable", "文件系统为只读；请以可写方式挂载"),
    errno.ENOSPC: ("the disk is full; free some space", "磁盘已满；请释放空间"),
    errno.EDQUOT: ("the disk quota is used up; free some space", "磁盘配额已用尽；请释放空间"),
    errno.ENOTDIR: ("a file is where a folder is needed; move it away", "应为文件夹的位置是一个文件；请将其移走"),
    errno.EEXIST: ("a file is where a folder is needed; move it away", "应为文件夹的位置是一个文件；请将其移走"),
    errno.EISDIR: ("a folder is where a file is needed; move it away", "应为文件的位置是一个文件夹；请将其移走"),
    errno.ENAMETOOLONG: ("the path is too long; use a shorter one", "路径过长；请使用更短的路径"),
}


@dataclass(frozen=True)
class Home:
    """One home. Its path is made absolute, so that a child with another working directory means the same folder."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(self.path.expanduser())))

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def run(self) -> Path:
        """Files that mean something only while a server runs: lock, sockets, service.json."""
        return self.path / "run"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def files(self) -> Path:
        """What callers uploaded. Made with the first file, as `documents` is: what was read from them."""
        return self.path / "files"

    @property
    def documents(self) -> Path:
        return self.path / "documents"

    @property
    def database(self) -> Path:
        return self.path / "hanlin.db"

    @property
    def secret_file(self) -> Path:
        return self.path / "secret"

    @property
    def config_file(self) -> Path:
        """Read when it exists and no other file was named."""
        return self.path / "hanlin.toml"

    @property
    def lock_file(self) -> Path:
        return self.run / "lock"

    @property
    def service_file(self) -> Path:
        return self.run / "service.json"


class Running(msgspec.Struct, frozen=True):
    """The server that holds a home: its process and the address that it answers at."""

    pid: int
    url: str
    started: datetime


def cannot_use(path: Path, error: OSError) -> StartupError:
    """Return what to tell the user about a file or folder that the system refused: the reason and the remedy."""
    why_en, why_zh = _REASONS.get(error.errno or 0, (str(error.strerror or error),) * 2)
    return StartupError(
        say(
            f"{path}: cannot be used: {why_en}, or choose another home with --home DIR",
            f"{path}：无法使用：{why_zh}，或用 --home 目录 指定其他主目录",
        )
    )


def prepare(home: Home) -> None:
    """Make the home's folders, open to their owner only, and see that files can be written there.

    A folder that exists keeps its mode: an operator may share `models` on purpose. Raises StartupError.
    """
    size_bytes = len(os.fsencode(home.path))
    if size_bytes > PATH_LIMIT_BYTES:
        raise StartupError(
            say(
                f"{home.path}: the path has {size_bytes} bytes, the limit is {PATH_LIMIT_BYTES}. Take a shorter --home",
                f"{home.path}：路径长 {size_bytes} 字节，最多 {PATH_LIMIT_BYTES} 字节。请用 --home 指定更短的路径",
            )
        )
    for folder in (home.path, home.models, home.run, home.journal):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(4096))
        except OSError as error:
            raise cannot_use(folder, error) from error


def private_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, open to their owner only."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def server_secret(home: Home) -> bytes:
    """Return the 32 random bytes that keys are hashed with, made at the first call in a prepared home.

    Ask before the database is opened: a missing secret beside a database is logged, since the keys in it stopped
    working. Two processes that ask at once get the same bytes. A file that others could read is closed to them.
    Raises StartupError when the file has another length.
    """
    file = home.secret_file
    try:
        if not file.exists():
            with _alone(home.run / "secret.lock"):
                _make_secret(home)
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
        secret = file.read_bytes()
    except OSError as error:
        raise cannot_use(file, error) from error
    if len(secret) != SECRET_BYTES:
        raise StartupError(
            say(
                f"{file}: has {len(secret)} bytes instead of {SECRET_BYTES}. Restore it from a backup; or delete it, "
                "revoke all keys with `hanlin keys revoke ID`, and make new ones with `hanlin keys create`",
                f"{file}：长度为 {len(secret)} 字节，应为 {SECRET_BYTES} 字节。请从备份恢复；或将其删除，"
                "用 `hanlin keys revoke 编号` 吊销全部密钥，再用 `hanlin keys create` 创建新密钥",
            )
        )
    return secret


def _make_secret(home: Home) -> None:
    file = home.secret_file
    if file.exists():
        return
    if home.database.exists():
        _log.warning(
            say(
                f"{file}: was missing, a new one is made. Keys stored before no longer work",
                f"{file}：文件缺失，已新建。此前保存的密钥将失效",
            )
        )
    _write_whole(file, secrets.token_bytes(SECRET_BYTES))


class HomeLock:
    """A home held by this process until `release`, the end of the `with` block or the death of the process.

    Children started with `exec` do not hold it. A child made by a bare `fork` would, so none may be made.
    """

    def __init__(self, home: Home, descriptor: int) -> None:
        self._home = home
        self._descriptor = descriptor

    def announce(self, url: str) -> None:
        """Tell other programs of this user where the service answers. Raises StartupError when it cannot."""
        running = Running(pid=os.getpid(), url=url, started=datetime.now(UTC))
        try:
            _write_whole(self._home.service_file, msgspec.json.encode(running) + b"\n")
        except OSError as error:
            raise cannot_use(self._home.service_file, error) from error

    def release(self) -> None:
        """Give the home back. A second call does nothing."""
        if self._descriptor < 0:
            return
        self._home.service_file.unlink(missing_ok=True)
        # The lock file stays: removing it would let two servers lock two files of one name.
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock(home: Home, wait_s: float = 1.0) -> HomeLock:
    """Hold a prepared home for this process, or raise StartupError that names the process which holds it.

    What a killed server left behind does not count. A taken home is waited for, up to `wait_s`, because `running` takes
    the lock for a moment, and a server that was told to stop needs one to go.
    """
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_use(home.lock_file, error) from error
    try:
        deadline = time.monotonic() + wait_s
        while not _took(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise _taken(home, os.pread(descriptor, 32, 0).decode("ascii", "replace"))
            time.sleep(_LOCK_PAUSE_S)
        home.service_file.unlink(missing_ok=True)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d" % os.getpid(), 0)
    except OSError as error:
        os.close(descriptor)
        raise cannot_use(home.lock_file, error) from error
    except BaseException:
        os.close(descriptor)
        raise
    return HomeLock(home, descriptor)


def running(home: Home) -> Running | None:
    """Return the server that holds the home and has announced its address, or None.

    Files that a killed server left behind count for nothing: only a held lock does. Raises StartupError when the home
    may not be read.
    """
    try:
        with home.lock_file.open("rb") as file:
            if _took(file.fileno(), fcntl.LOCK_SH):
                return None
        return msgspec.json.decode(home.service_file.read_bytes(), type=Running)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    except OSError as error:
        raise cannot_use(home.run, error) from error


def _took(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken(home: Home, pid: str) -> StartupError:
    return StartupError(
        say(
            f"{home.path}: served already by process {pid or '(starting)'}. "
            f"Stop it (kill {pid or 'PID'}), or give this server its own home with --home DIR",
            f"{home.path}：已由进程 {pid or '（正在启动）'} 提供服务。"
            f"请停止该进程（kill {pid or 'PID'}），或用 --home 目录 为本服务指定其他主目录",
        )
    )


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same file."""
    with open(file, "ab", opener=_private) as opened:
        fcntl.flock(opened.fileno(), fcntl.LOCK_EX)
        yield


def _write_whole(file: Path, content: bytes) -> None:
    """Write a file that is there with all its content or not at all, also after a loss of power.

    For one writer at a time: the caller holds a lock.
    """
    unfinished = file.with_name(f"{file.name}.tmp")
    with open(unfinished, "wb", opener=_private) as opened:
        os.fchmod(opened.fileno(), 0o600)
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
