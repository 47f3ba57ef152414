"""Settings: which source wins, what does not fit and how that is said, and secrets that are never shown."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanlin import settings
from hanlin.errors import StartupError
from hanlin.settings import (
    FIELDS,
    DeploymentRow,
    RouteRow,
    Secret,
    Settings,
    default_home,
    heard,
    is_secret,
    load,
    told,
    type_name,
)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hanlin.toml"


# --- sources ---------------------------------------------------------------------------------------------------------


def test_without_any_source_the_defaults_are_in_force() -> None:
    """A first start needs no settings; the service is for this machine only then."""
    effective = load(None, {}, {})

    assert effective.settings == Settings()
    assert set(effective.origin.values()) == {"default"}
    assert effective.settings.host == "127.0.0.1"


def test_a_flag_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    """The nearer a source is to the command, the more it counts; where each value came from can be shown."""
    file.write_text("port = 1\nslots = 1\nthreads = 1\nqueue_limit = 1\n")

    effective = load(
        file,
        {"HANLIN_PORT": "2", "HANLIN_SLOTS": "2", "HANLIN_LOG_FORMAT": "json", "PATH": "/bin"},
        {"port": 3, "threads": 3, "log_format": None},
    )

    found = effective.settings
    assert (found.port, found.slots, found.threads, found.queue_limit) == (3, 2, 3, 1)
    assert found.log_format == "json"
    origin = effective.origin
    assert [origin[name] for name in ("port", "slots", "threads", "queue_limit", "log_format", "host")] == [
        "--port",
        "HANLIN_SLOTS",
        "--threads",
        str(file),
        "HANLIN_LOG_FORMAT",
        "default",
    ]


def test_a_flag_is_named_as_it_is_typed() -> None:
    """`--log-format`, so that the message leads to the right place."""
    assert load(None, {}, {"log_format": "json"}).origin["log_format"] == "--log-format"


def test_variables_that_are_no_settings_are_left_alone() -> None:
    """The home, the language and the file itself are chosen before settings are read."""
    environment = {
        "HANLIN_HOME": "/x",
        "HANLIN_LANG": "en",
        "HANLIN_CONFIG": "/y",
        "HANLIN_ADMIN_KEY": "sk-2",
        "DASHSCOPE_API_KEY": "sk-1",
    }

    assert load(None, environment).settings == Settings()


@pytest.mark.parametrize(
    ("text", "weights"), [("a,b", ("a", "b")), (" a , b ,", ("a", "b")), ("a", ("a",)), ("", ()), (",", ())]
)
def test_a_list_is_written_with_commas_in_the_environment(text: str, weights: tuple[str, ...]) -> None:
    """There is no other way of writing one there."""
    assert load(None, {"HANLIN_WEIGHTS": text}).settings.weights == weights


def test_a_list_is_a_list_in_the_file(file: Path) -> None:
    """And a text with commas is taken as well."""
    file.write_text('weights = ["a", "b"]')
    assert load(file, {}).settings.weights == ("a", "b")

    file.write_text('weights = "a,b"')
    assert load(file, {}).settings.weights == ("a", "b")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_switches_are_read_from_text(text: str, value: bool) -> None:
    """In the environment everything is text."""
    assert load(None, {"HANLIN_SMALL": text}).settings.small is value


def test_a_deployment_is_a_table_of_the_file(file: Path) -> None:
    """What it leaves out has defaults that fit most servers."""
    file.write_text('[[deployment]]\nname = "gpu"\nurl = "http://gpu/v1"\nserves = ["qwen3-*"]\n')

    assert load(file, {}).settings.deployment == (DeploymentRow("gpu", "http://gpu/v1", serves=("qwen3-*",)),)


def test_a_deployment_may_leave_everything_to_its_upstream(file: Path) -> None:
    """Address, key, names and manners are the upstream's to say, so they are left open and not guessed."""
    file.write_text('[[deployment]]\nname = "maker"\nupstream = "deepseek"\n')

    (row,) = load(file, {}).settings.deployment

    assert (row.url, row.serves, row.profile, row.key_env) == ("", None, "", "")


def test_a_route_is_a_table_of_the_file(file: Path) -> None:
    """It tries its deployments in their order unless it says otherwise."""
    file.write_text('[[route]]\nnames = ["qwen3-*"]\ndeployments = ["gpu", "embedded"]\n')

    assert load(file, {}).settings.route == (RouteRow(("qwen3-*",), ("gpu", "embedded")),)


def test_upstreams_are_a_list_like_any_other(file: Path) -> None:
    """One flag, variable or line of the file makes a service of somebody's models."""
    assert load(None, {"HANLIN_UPSTREAM": "deepseek, dashscope"}).settings.upstream == ("deepseek", "dashscope")


# --- what does not fit -----------------------------------------------------------------------------------------------

BAD_VARIABLES = [
    ("HANLIN_PORT", "abc", "Expected `int`"),
    ("HANLIN_PORT", "", "Expected `int`"),
    ("HANLIN_PORT", "-1", ">= 0"),
    ("HANLIN_PORT", "65536", "<= 65535"),
    ("HANLIN_SLOTS", "-1", ">= 0"),
    ("HANLIN_SLOTS", "1.5", "Expected `int`"),
    ("HANLIN_MAX_BODY_BYTES", "1023", ">= 1024"),
    ("HANLIN_STALL_S", "0", "> 0.0"),
    ("HANLIN_STALL_S", "nan", "> 0.0"),
    ("HANLIN_STALL_S", "8s", "Expected `float`"),
    ("HANLIN_SMALL", "maybe", "Expected `bool`"),
    ("HANLIN_LOG_FORMAT", "xml", "Invalid enum value"),
]


@pytest.mark.parametrize(("variable", "value", "why"), BAD_VARIABLES)
def test_a_value_that_does_not_fit_names_its_place_what_it_is_for_and_what_to_do(
    variable: str, value: str, why: str
) -> None:
    """A service that starts with a guess in place of a setting fails later, where nobody looks."""
    name = variable.removeprefix("HANLIN_").lower()

    with pytest.raises(StartupError) as problem:
        load(None, {variable: value})

    message = str(problem.value)
    assert message.startswith(f"{variable}: {name} = {value!r} does not fit: ")
    assert why in message
    assert FIELDS[name].metadata["en"] in message
    assert message.endswith("Correct or remove it")


def test_the_message_is_chinese_for_chinese_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting's sentence in the same language."""
    monkeypatch.setenv("HANLIN_LANG", "zh")

    with pytest.raises(StartupError, match=r"HANLIN_PORT：port = 'abc' 无效：.*监听端口。请更正或删除"):
        load(None, {"HANLIN_PORT": "abc"})


@pytest.mark.parametrize("variable", ["HANLIN_PROT", "HANLIN_", "HANLIN_DEPLOYMENT", "HANLIN_ROUTE"])
def test_a_variable_that_nobody_knows_stops_the_start(variable: str) -> None:
    """A slip of the pen would leave the default in force without a word."""
    with pytest.raises(
        StartupError, match=rf"{variable}: unknown setting\. `hanlin config` lists the known ones; unset it"
    ):
        load(None, {variable: "1"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"prot = 1", "unknown setting 'prot'. `hanlin config` lists the known ones"),
        (b"port = ", "not TOML: "),
        (b"port = 1\nport = 2", "not TOML: "),
        (b'host = "\xff"', "not TOML: "),
        (b"port = true", "port = True does not fit"),
        (b'port = "abc"', "port = 'abc' does not fit"),
        (b"api_key = 5", "api_key must be text"),
        (b"deployment = 5", "deployment = 5 does not fit"),
        (b'[[deployment]]\nurl = "http://a"', "missing required field `name`"),
        (b'[[deployment]]\nname = "a"\nengine = "tgi"', "Invalid enum value 'tgi'"),
        (b'[[deployment]]\nname = "a"\ngpus = [-1]', ">= 0"),
        (b'[[route]]\nnames = ["a"]', "missing required field `deployments`"),
        (b'[[route]]\nnames = ["a"]\ndeployments = ["b"]\nchoose = "best"', "Invalid enum value 'best'"),
        (b'[[deployment]]\nname = "a"\nurl = "http://a"\nslot = 1', "unknown field `slot`"),
        (b'[[deployment]]\nname = "a"\nurl = "http://a"\nslots = 0', ">= 1"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(file: Path, content: bytes, words: str) -> None:
    """Of every kind: no TOML, no UTF-8, unknown names, wrong types, rows of deployments."""
    file.write_bytes(content)

    with pytest.raises(StartupError) as problem:
        load(file, {})

    assert str(problem.value).startswith(f"{file}: ")
    assert words in str(problem.value)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    """A file that was asked for by name must be there."""
    with pytest.raises(StartupError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(StartupError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path, {})


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [repr, str, format, "{}".format, "%s".__mod__, lambda secret: f"{secret} {secret!r}"])
def test_a_secret_is_masked_however_it_is_shown(shown: Any) -> None:
    """Logs, tracebacks and `hanlin config` print whatever they get."""
    assert "sk-1" not in shown(Secret("sk-1"))
    assert "••••" in shown(Secret("sk-1"))


def test_a_secret_is_revealed_only_on_purpose() -> None:
    """And an empty one can be told from a set one."""
    assert Secret("sk-1").reveal() == "sk-1"
    assert repr(Secret("")) == "''"
    assert Secret("sk-1") == "sk-1"


def test_settings_can_be_printed_without_giving_the_key_away() -> None:
    """A frozen dataclass prints its fields."""
    found = load(None, {"HANLIN_API_KEY": "sk-1"}).settings

    assert found.api_key.reveal() == "sk-1"
    assert "sk-1" not in f"{found} {found!r}"
    assert [name for name in FIELDS if is_secret(name)] == ["api_key", "database", "secret", "redis"]


# --- the table itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_setting_has_a_sentence_in_both_languages_and_a_unit_in_its_name(name: str) -> None:
    """The help, the reference page and `hanlin config` are made of them."""
    words, kind = FIELDS[name].metadata, type_name(name)

    assert words["en"].endswith(".")
    assert words["zh"].endswith(("。", "）。"))
    assert kind != "float" or name.endswith(("_s", "_share"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("host", "text"),
        ("api_key", "text"),
        ("port", "int"),
        ("stall_s", "float"),
        ("small", "bool"),
        ("weights", "list"),
        ("log_format", "text | json"),
    ],
)
def test_types_are_named_as_people_read_them(name: str, kind: str) -> None:
    """`Annotated[int, Meta(ge=0)]` would help nobody."""
    assert type_name(name) == kind


def test_the_public_names_are_there() -> None:
    """What the module says that it offers."""
    assert all(hasattr(settings, name) for name in settings.__all__)


def test_the_home_is_where_the_variable_says_or_in_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is spelled out, because configuration files do not know it."""
    monkeypatch.setenv("HOME", "/home/li")

    assert default_home({"HANLIN_HOME": "/srv/hanlin"}) == Path("/srv/hanlin")
    assert default_home({"HANLIN_HOME": "~/h"}) == Path("/home/li/h")
    assert default_home({"HANLIN_HOME": ""}) == default_home({}) == Path("/home/li/.hanlin")


def test_what_kubernetes_injects_is_no_setting() -> None:
    """Services that are called hanlin and hanlin-redis put these into every container beside them."""
    environment = {
        "HANLIN_SERVICE_HOST": "10.0.0.1",
        "HANLIN_SERVICE_PORT": "8080",
        "HANLIN_PORT": "tcp://10.0.0.1:8080",
        "HANLIN_PORT_8080_TCP_ADDR": "10.0.0.1",
        "HANLIN_SERVICE_PORT_HTTP": "8080",
        "HANLIN_REDIS_SERVICE_HOST": "10.0.0.2",
        "HANLIN_REDIS_PORT": "tcp://10.0.0.2:6379",
        "HANLIN_REDIS_PORT_6379_TCP": "tcp://10.0.0.2:6379",
    }

    assert load(environment=environment).settings.port == 8080


# --- several processes -----------------------------------------------------------------------------------------------


def test_settings_reach_another_process_of_the_service_as_they_are() -> None:
    """A worker reads no file: half of a service must not run by other settings than the other half."""
    settings = Settings(
        api_key=Secret("sk-secret"),
        workers=4,
        stall_s=1.5,
        weights=("a", "b"),
        deployment=(DeploymentRow(name="gpu", url="http://gpu/v1", names={"a": "b"}, serves=("qwen*",)),),
        route=(RouteRow(names=("qwen*",), deployments=("gpu",), weights=(1,), choose="weighted"),),
    )

    came = heard(msgspec.json.decode(msgspec.json.encode(told(settings))))

    assert came == settings
    assert came.api_key.reveal() == "sk-secret"
    assert "sk-secret" not in repr(came)
