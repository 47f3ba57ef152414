"""The home: folders, secret, lock, and how other programs find the service."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hanlin.errors import StartupError
from hanlin.home import PATH_LIMIT_BYTES, Home, cannot_use, lock, prepare, running, server_secret
from hanlin.keys import adopted, hash_key, hint, new_key

HOLDER = """
import sys
from pathlib import Path
from hanlin.home import Home, lock
held = lock(Home(Path(sys.argv[1])))
held.announce("http://127.0.0.1:8080")
print("held", flush=True)
sys.stdin.read()
held.release()
"""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    prepare(home)
    return home


@contextmanager
def holder(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the home until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(home.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_lies_inside_the_home() -> None:
    """One folder to back up, to mount and to remove."""
    home = Home(Path("/srv/hanlin"))

    places = [home.models, home.run, home.journal, home.database, home.secret_file, home.config_file]

    assert {place.parent for place in places} == {home.path}
    assert home.database.name == "hanlin.db"
    assert home.config_file.name == "hanlin.toml"


def test_a_home_means_the_same_folder_from_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children are started elsewhere and are handed the path."""
    monkeypatch.chdir(tmp_path)

    home = Home(Path("here"))
    monkeypatch.chdir("/")

    assert home.path == tmp_path / "here"


def test_the_folders_of_a_new_home_are_open_to_their_owner_only(tmp_path: Path) -> None:
    """Journals hold what callers wrote, and the secret makes keys."""
    home = Home(tmp_path / "not" / "yet" / "there")

    prepare(home)

    assert [mode(folder) for folder in (home.path, home.models, home.run, home.journal)] == [0o700] * 4


def test_a_prepared_home_is_prepared_again_without_a_change(home: Home) -> None:
    """Every start prepares; what an operator shared on purpose stays shared."""
    home.models.chmod(0o755)
    (home.models / "weights").write_bytes(b"kept")

    prepare(home)

    assert mode(home.models) == 0o755
    assert (home.models / "weights").read_bytes() == b"kept"
    assert sorted(path.name for path in home.path.iterdir()) == ["journal", "models", "run"]


@pytest.mark.parametrize("place", ["home", "home/models"])
def test_a_file_where_a_folder_is_needed_stops_the_start_with_its_name(tmp_path: Path, place: str) -> None:
    """The user moves it away; we never remove what we did not make."""
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")

    with pytest.raises(StartupError, match=rf"^{file}: .*a file is where a folder is needed; move it away"):
        prepare(Home(tmp_path / "home"))

    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "no right to write there; change the owner"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_said_with_path_reason_and_remedy(number: int, words: str) -> None:
    """A traceback with an errno helps nobody; causes that no test can bring about as root are said as well."""
    message = str(cannot_use(Path("/srv/hanlin"), OSError(number, os.strerror(number))))

    assert message.startswith("/srv/hanlin: ")
    assert words in message
    assert message.endswith("--home DIR")


def test_a_refusal_is_said_in_chinese_where_the_locale_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both languages are first-class."""
    monkeypatch.setenv("HANLIN_LANG", "zh_CN")

    message = str(cannot_use(Path("/srv/hanlin"), OSError(errno.ENOSPC, "No space left on device")))

    assert "磁盘已满" in message


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    """Paths of build machines and mounted volumes are long."""
    home = Home(of_length(tmp_path, PATH_LIMIT_BYTES))

    prepare(home)
    with lock(home) as held:
        held.announce("http://127.0.0.1:8080")
        found = running(home)

    assert found is not None
    assert len(server_secret(home)) == 32


def test_a_path_that_the_database_could_not_have_is_refused_at_once(tmp_path: Path) -> None:
    """SQLite would only say "unable to open database file"."""
    home = Home(of_length(tmp_path, PATH_LIMIT_BYTES + 1))

    with pytest.raises(StartupError, match=r"has 401 bytes, the limit is 400\. Take a shorter --home"):
        prepare(home)


def of_length(folder: Path, size_bytes: int) -> Path:
    """Return a path below `folder` of exactly this length."""
    path = str(folder)
    while size_bytes - len(path) > 200:
        path += "/" + "x" * 100
    return Path(path + "/" + "y" * (size_bytes - len(path) - 1))


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(home: Home) -> None:
    """Keys are hashed with it: another one tomorrow would lock every caller out."""
    first = server_secret(home)
    second = server_secret(home)

    assert first == second
    assert len(first) == 32
    assert mode(home.secret_file) == 0o600


def test_two_homes_have_two_secrets(tmp_path: Path) -> None:
    """A hash stolen from one service must say nothing about another."""
    homes = [Home(tmp_path / "a"), Home(tmp_path / "b")]
    for home in homes:
        prepare(home)

    assert server_secret(homes[0]) != server_secret(homes[1])


def test_a_secret_that_others_could_read_is_closed_to_them(home: Home) -> None:
    """A restored backup often comes back with the mode of the day."""
    secret = server_secret(home)
    home.secret_file.chmod(0o644)

    assert server_secret(home) == secret
    assert mode(home.secret_file) == 0o600


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_secret_of_another_length_stops_the_start(home: Home, content: bytes) -> None:
    """A cut or edited file would refuse every key without a word."""
    home.secret_file.write_bytes(content)

    with pytest.raises(StartupError, match=f"has {len(content)} bytes instead of 32. Restore it from a backup"):
        server_secret(home)

    assert home.secret_file.read_bytes() == content


def test_what_a_process_killed_while_making_the_secret_left_is_not_taken_for_it(home: Home) -> None:
    """Half a secret is none."""
    home.secret_file.with_name("secret.tmp").write_bytes(b"half")

    secret = server_secret(home)

    assert len(secret) == 32
    assert not home.secret_file.with_name("secret.tmp").exists()


def test_all_who_ask_for_the_secret_at_once_get_the_same(home: Home) -> None:
    """`hanlin keys create` may run while the first server starts."""
    with ThreadPoolExecutor(8) as threads:
        secrets = set(threads.map(server_secret, [home] * 8))

    assert len(secrets) == 1


def test_a_secret_lost_beside_a_database_is_made_anew_with_a_warning(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """Every stored key stops working then, and somebody will ask why."""
    home.database.touch()

    server_secret(home)

    assert "Keys stored before no longer work" in caplog.text


def test_a_folder_in_the_place_of_the_secret_stops_the_start(home: Home) -> None:
    """A container that mounts a missing secret makes a folder of it."""
    home.secret_file.mkdir()

    with pytest.raises(StartupError, match="a folder is where a file is needed"):
        server_secret(home)


def test_a_second_server_on_one_home_is_told_who_holds_it_and_what_to_do(home: Home) -> None:
    """Two servers on one database and one set of children would look like random failures."""
    with holder(home) as process:
        with pytest.raises(StartupError) as refusal:
            lock(home, wait_s=0.1)

        message = str(refusal.value)
        assert f"served already by process {process.pid}." in message
        assert f"Stop it (kill {process.pid}), or give this server its own home with --home DIR" in message


def test_a_home_is_held_against_the_same_process_too(home: Home) -> None:
    """Two servers in one program are two servers."""
    with lock(home), pytest.raises(StartupError, match=f"process {os.getpid()}"):
        lock(home, wait_s=0.1)


def test_a_home_that_was_released_can_be_held_again(home: Home) -> None:
    """A restart is the most frequent start."""
    with lock(home) as held:
        held.announce("http://127.0.0.1:8080")

    with lock(home) as again:
        assert running(home) is None
        again.release()
        again.release()
        with lock(home):
            pass


def test_a_killed_server_blocks_nobody(home: Home) -> None:
    """Its files stay behind; only a held lock counts."""
    with holder(home) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()

        assert home.service_file.exists()
        assert running(home) is None
        with lock(home):
            assert not home.service_file.exists()


def test_other_programs_find_the_server_that_holds_the_home(home: Home) -> None:
    """`hanlin chat` needs no address on the machine where the service runs."""
    with holder(home) as process:
        found = running(home)

    assert found is not None
    assert found.pid == process.pid
    assert found.url == "http://127.0.0.1:8080"
    assert found.started.tzinfo is not None
    assert mode(home.service_file) == 0o600


def test_a_server_that_has_not_announced_itself_is_not_found(home: Home) -> None:
    """It cannot be called yet."""
    with lock(home):
        assert running(home) is None


def test_a_home_that_was_never_served_has_no_server(tmp_path: Path) -> None:
    """Looking must neither fail nor make folders."""
    assert running(Home(tmp_path / "nowhere")) is None
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_service_file_counts_as_none(home: Home) -> None:
    """Nobody should have to know this file to repair it."""
    with lock(home):
        home.service_file.write_text("{")

        assert running(home) is None


def test_looking_for_a_server_does_not_keep_one_from_starting(home: Home) -> None:
    """A script that polls `hanlin` while the service starts must not make it fail."""
    with ThreadPoolExecutor(1) as threads:
        looks = threads.submit(lambda: [running(home) for _ in range(2000)])
        for _ in range(200):
            lock(home).release()
        looks.result()


def test_several_homes_do_not_disturb_each_other(tmp_path: Path) -> None:
    """One machine, several services."""
    homes = [Home(tmp_path / "a"), Home(tmp_path / "b")]
    for home in homes:
        prepare(home)

    with lock(homes[0]) as first, lock(homes[1]) as second:
        first.announce("http://127.0.0.1:1")
        second.announce("http://127.0.0.1:2")
        found = [running(home) for home in homes]

    assert [server and server.url for server in found] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]


def test_children_of_a_server_do_not_hold_its_home(home: Home) -> None:
    """An engine that outlives a killed server must not keep the next one out."""
    held = lock(home)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        try:
            held.release()

            with lock(home):
                assert child.poll() is None
        finally:
            child.kill()


def test_a_new_key_is_48_letters_and_digits_behind_sk() -> None:
    """Clients and secret scanners know the shape; no character needs quoting anywhere."""
    keys = {new_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith("sk-") and len(key) == 51 and key[3:].isalnum() and key.isascii() for key in keys)


def test_a_key_that_the_user_brings_may_have_any_shape_that_can_travel_in_a_header() -> None:
    """People already have a key in DASHSCOPE_API_KEY, and a test double for it."""
    assert adopted("  test key/1=\n", "DASHSCOPE_API_KEY") == "test key/1="


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("k" * 513, "has 513 characters, at most 512 work"),
        ("sk-\x00abcdefgh", "other than printable ASCII"),
        ("sk-a\nb", "other than printable ASCII"),
        ("密钥密钥密钥", "other than printable ASCII"),
    ],
)
def test_a_key_that_could_not_be_sent_is_refused_without_being_shown(text: str, why: str) -> None:
    """The message ends in logs: it names the variable, never the key."""
    with pytest.raises(StartupError, match=f"^DASHSCOPE_API_KEY: .*{why}") as refusal:
        adopted(text, "DASHSCOPE_API_KEY")

    assert not text.strip() or text.strip() not in str(refusal.value)


def test_a_key_is_stored_as_a_hash_that_needs_the_servers_secret() -> None:
    """Whoever copies the database alone can neither use the keys nor guess short ones."""
    one, other = bytes(32), bytes([1]) * 32

    assert hash_key(one, "sk-a") == hash_key(one, "sk-a")
    assert len({hash_key(one, "sk-a"), hash_key(one, "sk-b"), hash_key(other, "sk-a")}) == 3
    assert len(hash_key(one, "sk-a")) == 64


def test_any_text_from_the_wire_can_be_hashed() -> None:
    """A nonsensical key is an unknown key: 401, not 500."""
    assert len(hash_key(bytes(32), "\udcff密钥")) == 64


def test_a_hint_never_gives_a_short_key_away() -> None:
    """Four characters of fifty tell keys apart; four of eight are half of a secret."""
    assert hint("sk-" + "a" * 44 + "WXYZ") == "WXYZ"
    assert hint("password") == ""
