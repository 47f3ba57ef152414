"""What Hanlin does with the JSON Schemas of its callers: tool parameters and shapes of answers.

    check         is it a schema that we can work with? once, when a request arrives
    problem       why a value does not fit, in one sentence
    fitted        the value with what models get nearly right put right
    for_decoding  the schema as an engine is given it, so that a small model comes to an end
    moved         the schema as it must be written to stand within another one
    is_exact      whether what such a decode writes fits for certain

`problem`, `fitted` and `for_decoding` take a schema that `check` has accepted. A decode narrows what is said, `problem`
has the last word: whatever an engine cannot be held to is found afterwards.
"""

from hanlin.schemas.checking import check
from hanlin.schemas.decoding import for_decoding
from hanlin.schemas.exact import is_exact
from hanlin.schemas.explaining import problem
from hanlin.schemas.fitting import fitted
from hanlin.schemas.parts import moved

__all__ = ["check", "fitted", "for_decoding", "is_exact", "moved", "problem"]
