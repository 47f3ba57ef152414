"""Fakes that we ship, for our tests and for users of Hanlin. Nothing else imports them.

`FakeEngine` starts a scriptable engine that speaks OpenAI chat and llama.cpp's completions, as a process of its own;
`Rule` says what it answers (see `hanlin.testing.rules` for all that a rule can say, `hanlin.testing.fake` for an
example). `ScriptedEngine` is one inside the test's own process. From a shell, in any language's tests:

    python -m hanlin.testing.engine --port 9000 --rules rules.toml
    curl -s localhost:9000/requests
"""

from hanlin.testing.fake import FakeEngine, free_port, wait_until
from hanlin.testing.records import Record
from hanlin.testing.rules import Rule, Setup, ToolCall
from hanlin.testing.schema import example
from hanlin.testing.scripted import HANG, ScriptedEngine, says

__all__ = [
    "HANG",
    "FakeEngine",
    "Record",
    "Rule",
    "ScriptedEngine",
    "Setup",
    "ToolCall",
    "example",
    "free_port",
    "says",
    "wait_until",
]
