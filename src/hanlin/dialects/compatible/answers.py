"""Parts of answers that all dialects of the compatible surface write alike."""

from typing import Any

from hanlin.types import Usage


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return the usage of a call (spec/chat.md §4.6)."""
    told: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
    if usage.reasoning:
        # The vendor's text tokens include those of the reasoning (§4.6).
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning, "text_tokens": usage.completion}
    return told
