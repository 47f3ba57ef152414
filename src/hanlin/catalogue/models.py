"""What a model promises under its name, as values: limits, modes, features, prices, lifecycle, sampling defaults.

Values and their arithmetic only. `loading` reads them from the TOML files and checks them; what answers a name here is
decided elsewhere.
"""

import datetime
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hanlin.catalogue.tasks import Tasks
from hanlin.words import say

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(gt=0)]
Price = Annotated[float, Meta(ge=0)]

Thinking = Literal["none", "hybrid-default-off", "hybrid-default-on", "only"]
Status = Literal["active", "unknown", "reported-retired", "retired"]
Modality = Literal["text", "image", "video", "audio", "embedding"]

CHAT = "chat/completions"
EMBEDDINGS = "embeddings"


class PriceTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """List prices in CNY per million tokens for requests of at most `up_to_tokens` input tokens (None: of any length).

    A whole request is billed at one tier. `output_thinking` is the output price of a call that thought (None: the same
    as `output`); `cached_input` is for implicit hits, `cache_create` and `cache_hit` for explicit ones; `batch_*` for
    batch files; `output_multimodal_in` is text output when the input is not pure text. `period` is `peak` or
    `off-peak` where the vendor distinguishes them.
    """

    input: Price
    output: Price | None = None
    up_to_tokens: Count | None = None
    output_thinking: Price | None = None
    cached_input: Price | None = None
    cache_create: Price | None = None
    cache_hit: Price | None = None
    batch_input: Price | None = None
    batch_output: Price | None = None
    input_audio: Price | None = None
    input_vision: Price | None = None
    output_multimodal_in: Price | None = None
    output_audio: Price | None = None
    period: Literal["peak", "off-peak"] | None = None


class Vectors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an embedding model gives and takes: the `dimensions` that may be asked for, those of a call that asks for
    none (`default`), and the most `texts` of one call."""

    dimensions: Annotated[tuple[Count, ...], Meta(min_length=1)]
    default: Count
    texts: Count


class Lifecycle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the vendor still serves the name. `reported-retired`: a reseller says so, the vendor does not."""

    status: Status = "unknown"
    date: datetime.date | None = None
    source: str = ""


class Takes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model differs from the others in what it takes (spec/chat.md §3).

    `ignored` names fields that it passes over, `refused` those that it answers with an error. `own_sampling`: it draws
    tokens as it does, and refuses any other value. `temperature_max`, `top_p_min` and `stops_max` narrow the usual
    range.
    """

    ignored: tuple[Text, ...] = ()
    refused: tuple[Text, ...] = ()
    own_sampling: bool = False
    temperature_max: float | None = None
    top_p_min: float | None = None
    stops_max: Count | None = None


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[model]]` row: a name of Model Studio and everything that is known about it.

    What a row leaves out is unknown (None) or, for modalities, the cautious answer: text only. `aliases` behave the
    same as `name`; `endpoint` None means that no HTTP endpoint of ours serves it; the `*_thinking` limits hold while it
    thinks. `needs` lists what its callers cannot do without, `suits` the tasks that it is good at, best first, and
    `grade` how capable it is in our judgement, 1 (tiny) to 5 (flagship). `languages` is set where it speaks only those.
    `effort` names the levels of `reasoning_effort` that it takes; `keeps_reasoning`: earlier turns' reasoning is put
    into the prompt unless the caller says otherwise; `text_switches`: `/think` and `/no_think` at the end of a message
    switch thinking; `tool_choices` are the forms of `tool_choice` that it takes; `max_tokens_covers`: whether
    `max_tokens` caps the answer, or reasoning and answer together.
    `recipe` is the scenario that the name stands for; `cumulative`: every chunk of its streams holds the whole text so
    far; `end_chunks` is how many chunks state the end.
    `unconfirmed` names fields whose value the vendor does not state; `source` and `as_of` are of the row as a whole.
    """

    name: Text
    aliases: tuple[Text, ...] = ()
    family: Text
    owner: Text
    description: Text
    suits: tuple[Text, ...]
    grade: Annotated[int, Meta(ge=1, le=5)]
    languages: tuple[Text, ...] = ()
    needs: tuple[Text, ...] = ()
    endpoint: Literal["chat/completions", "embeddings"] | None = None
    sampling: str = ""
    context_tokens: Count | None = None
    max_input_tokens: Count | None = None
    max_output_tokens: Count | None = None
    max_reasoning_tokens: Count | None = None
    max_input_tokens_thinking: Count | None = None
    max_output_tokens_thinking: Count | None = None
    thinking: Thinking = "none"
    effort: str = ""
    keeps_reasoning: bool = False
    text_switches: bool = False
    max_tokens_covers: Literal["answer", "all", "all-without-budget"] = "answer"
    recipe: str = ""
    cumulative: bool = False
    end_chunks: Count = 1
    system_messages: Literal["read", "ignored", "forbidden"] = "read"
    tool_choices: tuple[Literal["auto", "none", "named", "required"], ...] = ("auto", "none", "named")
    takes: Takes = Takes()
    stream_only: Literal["never", "thinking", "always"] | None = None
    input_modalities: tuple[Modality, ...] = ("text",)
    output_modalities: tuple[Modality, ...] = ("text",)
    features: tuple[Text, ...] = ()
    prices: tuple[PriceTier, ...] = ()
    rpm: Count | None = None
    tpm: Count | None = None
    vectors: Vectors | None = None
    open_weights: Text | None = None
    open_weights_match: Literal["exact", "base", "closest"] | None = None
    lifecycle: Lifecycle = Lifecycle()
    unconfirmed: tuple[Text, ...] = ()
    notes: str = ""
    source: Text
    as_of: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]

    @property
    def chats(self) -> bool:
        """Whether the chat endpoint serves this name."""
        return self.endpoint == CHAT

    @property
    def embeds(self) -> bool:
        """Whether the embeddings endpoint serves this name."""
        return self.endpoint == EMBEDDINGS

    def input_limit_tokens(self, *, thinking: bool = False) -> int | None:
        """The longest prompt, None when unknown."""
        limit = self.max_input_tokens_thinking if thinking else None
        return limit or self.max_input_tokens or self.context_tokens

    def output_limit_tokens(self, *, thinking: bool = False) -> int | None:
        """The longest answer, reasoning not counted; None when unknown."""
        limit = self.max_output_tokens_thinking if thinking else None
        return limit or self.max_output_tokens

    def price(self, input_tokens: int, *, period: Literal["peak", "off-peak"] = "peak") -> PriceTier | None:
        """The list prices of a request with so much input; None when none are published.

        A request beyond the last tier is billed at it.
        """
        tiers = [tier for tier in self.prices if tier.period in (None, period)]
        for tier in tiers:
            if tier.up_to_tokens is None or input_tokens <= tier.up_to_tokens:
                return tier
        return tiers[-1] if tiers else None


class SamplingDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens are drawn when the caller does not say. None: no default; for `top_k`: the model takes none.

    `temperature_with_vision` replaces `temperature` for calls with images or video, `temperature_with_tools` for calls
    that offer tools; a caller's temperature below `temperature_floor` is raised to it.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    temperature_with_vision: float | None = None
    temperature_with_tools: float | None = None
    temperature_floor: float | None = None


class SamplingGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models that draw tokens alike: `plain` without thinking, `thinking` with it; one alone serves for both."""

    name: Text
    source: Text
    plain: SamplingDefaults | None = None
    thinking: SamplingDefaults | None = None


class Efforts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The levels of `reasoning_effort` that some models take (spec/chat.md §5.3).

    `aliases` are other words for a level, `off` those for not thinking at all. `tokens` is the reasoning that a level
    stands for where the vendor says so, `default_tokens` that of a call that names neither level nor budget.
    `excludes_budget`: a call must not name both.
    """

    name: Text
    levels: tuple[Text, ...]
    default: Text
    source: Text
    aliases: dict[str, str] = {}
    off: tuple[Text, ...] = ()
    tokens: dict[str, Count] = {}
    default_tokens: Count | None = None
    excludes_budget: bool = False

    def words(self) -> tuple[str, ...]:
        """Every word that a caller may use."""
        return (*self.levels, *self.aliases, *self.off)


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group of models is about, in both languages."""

    name: Text
    en: Text
    zh: Text

    @property
    def title(self) -> str:
        return say(self.en, self.zh)


class Need(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that callers of a model cannot do without, and why a model that lacks it must not stand in."""

    name: Text
    en: Text
    zh: Text

    @property
    def why(self) -> str:
        """A clause that goes on after the model's name, in the user's language."""
        return say(self.en, self.zh)


class Catalogue(msgspec.Struct, frozen=True):
    """Every model that Hanlin knows, and the words its rows use. Read once by `load`, immutable after.

    `models` holds them by name, in file order; `by_name` by name and alias.
    """

    models: Mapping[str, Model]
    by_name: Mapping[str, Model]
    groups: Mapping[str, SamplingGroup]
    families: Mapping[str, Family]
    needs: Mapping[str, Need]
    features: Mapping[str, str]
    owners: Mapping[str, str]
    tasks: Tasks
    efforts: Mapping[str, Efforts] = {}

    def find(self, name: str) -> Model | None:
        """Return the model of this name or alias; names are case sensitive, as the vendor's are."""
        return self.by_name.get(name)

    def names(self) -> tuple[str, ...]:
        """Every name and alias that a caller may use."""
        return tuple(self.by_name)

    def sampling(self, model: Model, *, thinking: bool) -> SamplingDefaults:
        """Return the defaults of a call that thinks, or of one that does not; all None where no tokens are drawn."""
        group = self.groups.get(model.sampling)
        if group is None:
            return SamplingDefaults()
        first, second = (group.thinking, group.plain) if thinking else (group.plain, group.thinking)
        return first or second or SamplingDefaults()

    def missing(self, model: Model) -> tuple[Need, ...]:
        """Return what a model needs that text chat lacks; empty: something that chats may stand in for the name."""
        return tuple(self.needs[name] for name in model.needs)


__all__ = [
    "CHAT",
    "Catalogue",
    "Efforts",
    "Family",
    "Lifecycle",
    "Model",
    "Need",
    "PriceTier",
    "SamplingDefaults",
    "SamplingGroup",
    "Takes",
]
