"""How many further attempts all calls together may make, so that retries never multiply the load of a sick engine."""

_BUCKETS = 10


class RetryBudget:
    """In each window there are attempts for a share (`ratio`) of its calls, and for `least_per_s` where calls are few.

    The window moves in tenths of its length: what it counts lies at most `window_s` back, at least nine tenths of it.
    """

    __slots__ = ("_bucket", "_bucket_s", "_calls", "_least", "_ratio", "_taken")

    def __init__(self, ratio: float = 0.1, least_per_s: float = 1.0, window_s: float = 10.0) -> None:
        self._ratio = ratio
        self._least = least_per_s * window_s
        self._bucket_s = window_s / _BUCKETS
        self._bucket = 0
        self._calls = [0] * _BUCKETS
        self._taken = [0] * _BUCKETS

    def deposit(self, now: float) -> None:
        """Count a call, once, whatever becomes of it."""
        if int(now / self._bucket_s) != self._bucket:
            self._move(now)
        self._calls[self._bucket % _BUCKETS] += 1

    def left(self, now: float) -> bool:
        """Say whether `take` would give an attempt. Nothing is taken."""
        self._move(now)
        return sum(self._taken) + 1 <= self._ratio * sum(self._calls) + self._least

    def take(self, now: float) -> bool:
        """Take one further attempt, or say that none is left."""
        if not self.left(now):
            return False
        self._taken[self._bucket % _BUCKETS] += 1
        return True

    def _move(self, now: float) -> None:
        """Forget what has left the window."""
        bucket = int(now / self._bucket_s)
        if bucket == self._bucket:
            return
        for passed in range(max(self._bucket + 1, bucket - _BUCKETS + 1), bucket + 1):
            self._calls[passed % _BUCKETS] = self._taken[passed % _BUCKETS] = 0
        self._bucket = max(bucket, self._bucket)
