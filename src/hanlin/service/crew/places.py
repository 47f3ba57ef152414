"""Places at a deployment that the main process counts, once for all workers: each waits in the one line there."""

from collections import deque
from collections.abc import Callable

from hanlin.errors import EngineUnavailable, HanlinError
from hanlin.routing.capacity import Capacity
from hanlin.service.crew.failures import error_of
from hanlin.service.crew.line import Away, Line
from hanlin.service.crew.messages import Leave, Place, Refused, Shown, Surface
from hanlin.words import say


class SharedCapacity(Capacity):
    """A `Capacity` in the main process. `running`, `waiting` and `slots` are those of all workers, as last told."""

    __slots__ = ("_asking", "_deployment", "_held", "_line", "_part", "_shown", "_surface")

    def __init__(
        self,
        line: Line,
        surface: Surface,
        deployment: str,
        shown: Callable[[], Shown | None],
        part: Callable[[int], int],
    ) -> None:
        """`part` is this worker's part of a number, for those who add up what all workers say."""
        super().__init__(0, 0)
        self._part = part
        self._asking = 0
        self._line = line
        self._surface = surface
        self._deployment = deployment
        self._shown = shown
        self._held: deque[int] = deque()

    def told(self) -> None:
        """Take over what the main process said last."""
        if (shown := self._shown()) is not None:
            self.slots, self.running, self.waiting = shown.slots, shown.running, shown.waiting

    def here(self) -> tuple[int, int, int]:
        return len(self._held), self._asking, self._part(self.slots)

    def try_acquire(self) -> bool:
        """Return False: there may be places, and only the main process can give one."""
        return False

    async def acquire(self, who: str = "") -> None:
        number = self._line.number()
        self._asking += 1
        try:
            answer = await self._line.ask(Place(number, self._surface, self._deployment, who))
        except Away:
            raise main_is_away() from None
        except BaseException:
            self._line.tell(Leave(number))
            raise
        finally:
            self._asking -= 1
        if isinstance(answer, Refused):
            raise error_of(answer.failure)
        self._held.append(number)

    def release(self) -> None:
        self._line.tell(Leave(self._held.popleft()))  # one is as good as another


def main_is_away() -> HanlinError:
    """Return what a caller is told while the main process does not answer."""
    return EngineUnavailable(say("the main process does not answer", "主进程暂无响应"))
