"""Documents keep up with the code: what they name exists, and what the code can write itself is not stale."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main

from hanlin import errors
from hanlin.cli.main import app
from hanlin.dialects import flat
from hanlin.dialects.compatible.fields import NUMBERS
from hanlin.engines.profiles import profiles
from hanlin.http.admin.routes import ROUTES
from hanlin.service.administration.operations import PREFIX
from hanlin.service.planning import REFUSALS
from hanlin.settings import DeploymentRow, RouteRow
from scripts import make_docs

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXAMPLES = sorted([*ROOT.glob("examples/*.py"), *ROOT.glob("examples/*.mjs")])

LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*/[\w-]+\.(?:py|toml|md|mjs)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_in(page: Path) -> Iterator[str]:
    """Yield every line of code of a page: of its blocks, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    for _language, block in FENCED.findall(text):
        yield from block.splitlines()
    yield from SPAN.findall(FENCED.sub("", text))


def links(page: Path) -> Iterator[tuple[str, str]]:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for title, target in LINK.findall(text):
        if "://" not in target:
            yield title, target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(page: Path) -> Iterator[list[str]]:
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def command_of(line: str) -> tuple[Any, list[str]]:
    """Return the command that a line such as `hanlin models choose "…"` calls, and its words that name no command."""
    words = line.split()[1:]
    command: Any = typer.main.get_group(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


def test_documents_that_the_code_can_write_are_not_stale() -> None:
    """A setting without its line on the reference page is a setting that nobody finds."""
    stale = [str(document.path) for document in make_docs.documents() if document.is_stale]

    assert stale == [], "run `make docs`"


def test_a_document_that_differs_from_what_would_be_written_is_stale(tmp_path: Path) -> None:
    """The check must notice a missing page as well as an edited one."""
    page = make_docs.Document(tmp_path / "page.md", "as written\n")

    assert page.is_stale
    page.path.write_text("as edited\n", encoding="utf-8")
    assert page.is_stale
    page.path.write_text("as written\n", encoding="utf-8")
    assert not page.is_stale


@pytest.mark.parametrize(
    ("row", "sentences"),
    [(DeploymentRow, make_docs.DEPLOYMENT_SENTENCES), (RouteRow, make_docs.ROUTE_SENTENCES)],
)
def test_every_field_of_a_table_has_its_sentence(row: type[msgspec.Struct], sentences: dict[str, Any]) -> None:
    """The settings page explains them in its own words, which must not outlive a field or miss a new one."""
    assert set(sentences) == {field.name for field in msgspec.structs.fields(row)}


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    """A dead link in the first ten minutes costs a reader's trust in all the rest."""
    dead = []
    for _title, target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)

    assert dead == []


@pages
def test_every_file_that_is_named_exists(page: Path) -> None:
    """Paths are written as people say them: from the root, from the page, or from the package."""
    places = (ROOT, page.parent, ROOT / "src/hanlin")
    missing = [
        name for code in code_in(page) for name in FILE.findall(code) if not any((at / name).exists() for at in places)
    ]

    assert missing == []


@pages
def test_code_that_a_link_names_is_defined_where_it_leads(page: Path) -> None:
    """The architecture page is a map by names; a renamed function must not leave it pointing at nothing."""
    lost = []
    for title, target in links(page):
        if not target.endswith(".py") or title.strip("`").endswith(".py"):
            continue
        name = re.escape(title.strip("`").rpartition(".")[2])
        source = (page.parent / target).read_text(encoding="utf-8")
        if not re.search(rf"^\s*(?:async )?(?:def|class) {name}\b|^{name}\b.*=", source, re.MULTILINE):
            lost.append(f"{title} in {target}")

    assert lost == []


@pages
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    """What a page tells the reader to type must work."""
    wrong = []
    for line in code_in(page):
        if not line.startswith("hanlin "):
            continue
        command, words = command_of(line)
        # A group that is called without one of its commands lists.
        command = getattr(command, "commands", {}).get("list", command)
        known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
        unknown = [word for word in words if word.startswith("--") and word not in known]
        if unknown or (words and hasattr(command, "commands") and not words[0].startswith("-")):
            wrong.append(line)

    assert wrong == []


@pages
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    """The two commands of the front page, and those for contributors."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {match[1] for line in code_in(page) if (match := re.match(r"make ([a-z0-9]+)\b", line))}

    assert named <= targets


def test_the_programs_of_the_documents_are_those_of_the_examples() -> None:
    """Examples are run; what the pages show must be the same programs, or it could stop working unseen."""
    programs = [example.read_text(encoding="utf-8") for example in EXAMPLES]
    shown = [
        (page.name, block)
        for page in PAGES
        for language, block in FENCED.findall(page.read_text(encoding="utf-8"))
        if language in ("python", "javascript")
    ]

    assert len(shown) >= len(EXAMPLES)
    assert [name for name, block in shown if not any(block in program for program in programs)] == []


def test_both_front_pages_show_the_same_commands() -> None:
    """Readers of one language must not know less than those of the other."""
    english, chinese = (
        {line for line in code_in(ROOT / name) if line.startswith("hanlin ")} for name in ("README.md", "README.zh.md")
    )

    assert english == chinese


def contract() -> dict[str, tuple[str, str]]:
    """Return what the contract page says of each request field: for the embedded engine, and for servers."""
    verdicts = {"honoured", "refused", "listed"}
    return {
        name: (row[1], row[2])
        for row in table_rows(ROOT / "docs/contract.md")
        if len(row) > 2 and {row[1], row[2]} <= verdicts
        for name in SPAN.findall(row[0])
    }


@pytest.mark.parametrize(
    "name", sorted({*profiles().engine["llama"].parameters, *NUMBERS, "logprobs", "stop"} - {"thinking_budget"})
)
def test_the_contract_page_says_which_parameters_each_engine_honours(name: str) -> None:
    """The page and the profiles are two lists of one fact."""
    # `n` is several calls of any engine, and `max_completion_tokens` reaches it as `max_tokens`.
    everywhere = name in ("n", "max_completion_tokens")
    expected = tuple(
        "honoured" if everywhere or profiles().engine[engine].honours(name) else "listed"
        for engine in ("llama", "openai")
    )

    assert contract()[name] == expected


def test_the_contract_page_names_what_is_refused() -> None:
    """What a caller will be refused must be found before the call."""
    named = contract()

    assert {name: named[name] for name in REFUSALS} == dict.fromkeys(REFUSALS, ("refused", "refused"))


def test_the_contract_page_lists_every_error_code() -> None:
    """Programs branch on codes; each that can be sent has its row, with its status."""
    listed = {(row[0], row[1].strip("`")) for row in table_rows(ROOT / "docs/contract.md") if row[0].isdecimal()}
    known = {
        (str(kind.status), kind.code or "null")
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.HanlinError)
    }

    assert known == listed


def test_the_contract_page_lists_every_code_of_flat_errors() -> None:
    """The same failure has another word on another surface."""
    spans = [(row[0].strip("`"), row[1].strip("`")) for row in table_rows(ROOT / "docs/contract.md") if len(row) == 3]

    assert {(code or "null", flat_code) for code, flat_code in flat.CODES.items()} <= set(spans)


def test_the_page_about_accounts_lists_every_call_of_the_admin_api_with_its_role() -> None:
    """What is described for programs is described for people."""
    listed = {(row[0].strip("`"), row[1]) for row in table_rows(ROOT / "docs/accounts.md") if "/admin/v1" in row[0]}

    assert listed == {(f"{route.method} {PREFIX}{route.path}", route.role) for route in ROUTES}
