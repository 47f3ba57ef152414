"""Text as XLM-RoBERTa's vocabulary knows it."""

import pytest

from hanlin.engines.nmt_nfkc import normalise


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("你好，世界", "你好,世界"),
        ("ＡＢＣ　１２３", "ABC 123"),
        ("ﬁne ① ㈱", "fine 1 (株)"),
        ("5～10元", "5～10元"),  # NFKC alone would make it another character
        ("one\n\n  two\tthree ", "one two three"),
        ("zero\u200bwidth", "zero width"),
        ("bell\x07 del\x7f", "bell del"),
        ("cafe\u0301", "café"),
        (" \u3000 ", ""),
    ],
)
def test_text_is_normalised_as_the_vocabulary_was(text: str, wanted: str) -> None:
    """A line end that is not a space to it would be an unknown token, and move the vector by a tenth."""
    assert normalise(text) == wanted
