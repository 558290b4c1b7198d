"""What this process knows of the buckets' epochs. A tag "<epoch> <run id>" counts only on the server it names."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from metering.model import keys
from metering.store.redis.link import Link, Server, pack


class BucketEpoch:
    """`tag` is None while the epoch is unknown, gone, or another server's; `open` once recovery lets it admit."""

    def __init__(self, bucket: int) -> None:
        self.bucket = bucket
        self.tag: str | None = None
        self.epoch = 0  # as the tag has it
        self.open = False
        self.value = b""  # of its epoch key

    def learned(self, tag: str | None, open_: bool) -> None:
        self.tag, self.open = tag, open_
        self.epoch = int(tag.split(" ", 1)[0]) if tag else 0

    @property
    def held(self) -> bool:
        """Whether this bucket's records must wait: what an admit did is not known yet."""
        return False


class Epochs:
    """Keeps `states` up to date. `on_change(state)` runs when one was read that is new, or not open."""

    def __init__(self, link: Link, states: Sequence[BucketEpoch], on_change: Callable[[Any], None]) -> None:
        self._link, self._states, self._on_change = link, states, on_change
        self.server: Server | None = None

    def link_up(self, server: Server) -> None:
        """A new connection: which server, and every bucket's epoch."""
        self.server = server
        self.ask(range(len(self._states)))

    def link_down(self) -> None:
        self.server = None
        for state in self._states:
            state.open = False

    def ask(self, buckets: Iterable[int]) -> None:
        asked = list(buckets)
        if asked:
            self._link.call(pack(("MGET", *[keys.epoch(bucket) for bucket in asked])), partial(self._answered, asked))

    def ask_unready(self) -> None:
        """Look again at the buckets that were not open."""
        self.ask([s.bucket for s in self._states if not s.open])

    @property
    def all_open(self) -> bool:
        return all(s.open for s in self._states)

    def _answered(self, asked: list[int], reply: Any) -> None:
        if not isinstance(reply, Exception):
            for bucket, value in zip(asked, reply, strict=True):
                self.learn(bucket, value or b"")

    def tag_of(self, value: bytes) -> str | None:
        """The tag in an epoch key's value, if it is this server's."""
        parts = value.decode().split(" ")
        if len(parts) < 2 or self.server is None or parts[1] != self.server.run_id:
            return None
        return f"{parts[0]} {parts[1]}"

    def learn(self, bucket: int, value: bytes) -> None:
        """The bucket's epoch key as the store holds it now. One that is held hears of it each time: it has to ask again."""
        state = self._states[bucket]
        if state.open and value == state.value and not state.held:
            return
        state.value = value
        before, was_open, tag = state.tag, state.open, self.tag_of(value)
        state.learned(tag, tag is not None and not value.endswith(b" wait"))
        if state.tag != before or not state.open or not was_open or state.held:
            self._on_change(state)
