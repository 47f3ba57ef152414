"""The language that people read: Chinese where the locale says so, English everywhere else."""

import os


def is_chinese(environment: "os._Environ[str] | dict[str, str]" = os.environ) -> bool:
    """Say whether the user's locale is Chinese; the first of HANLIN_LANG, LC_ALL, LC_MESSAGES, LANG decides."""
    for name in ("HANLIN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return value.lower().startswith("zh")
    return False


def say(en: str, zh: str) -> str:
    """Return the sentence in the user's language. Both are written where they are used, so that neither goes stale."""
    return zh if is_chinese() else en
