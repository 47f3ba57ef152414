"""Whole answers to billed calls, held until the turn of the loop ends: their bills are settled one after the other.

What is done in one go for a dozen calls takes half the time that it takes between all the other work. Nobody waits
noticeably for it, and the order stays: the row is in the journal, and places are free, before the answer's last byte
leaves.
"""

from collections.abc import Callable

from hanlin.http.exchange import Exchange, log


class Endings:
    """The answers of this turn. `ended` is told of each call that is over, after its answer was written."""

    def __init__(self, ended: Callable[[Exchange], None]) -> None:
        self._ended = ended
        self._held: list[tuple[Exchange, bytes]] = []

    def hold(self, exchange: Exchange, body: bytes) -> None:
        """Hold an answer that has begun; its handler does nothing more after this, and does not wait."""
        if not self._held:
            exchange.loop.call_soon(self._release)
        self._held.append((exchange, body))

    def _release(self) -> None:
        held, self._held = self._held, []
        for exchange, body in held:
            try:
                exchange.settle()
            except Exception:  # a mistake with one bill must not keep the others' answers
                log.exception("%s: its bill could not be settled", exchange.id)
                continue
            exchange.channel.end(body)
        for exchange, _ in held:
            try:
                self._ended(exchange)
            except Exception:  # nor may they wait for ever, or their connections be lost
                log.exception("%s: the call could not be counted", exchange.id)
            exchange.channel.wire.over(exchange.channel)
