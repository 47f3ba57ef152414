"""How long a client may take for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds.

    `progress_s`: between two packets of a request; `head_s`: all of a head; `idle_s`: between two requests; `flush_s`:
    reading the rest of an answer that is over; `linger_s`: reading an answer that came before the request's end.
    `leaving_s`: from the end of what a client sends, while it waits, to the end of its call. A program that leaves says
    no more than one that has only sent everything: the pause lets the latter have an answer that is quick.
    """

    progress_s: float = 30.0
    head_s: float = 60.0
    idle_s: float = 75.0
    flush_s: float = 120.0
    linger_s: float = 10.0
    leaving_s: float = 0.05
