"""What use cases need of the store for changes that are asked for again."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatRow:
    """One change that was asked for under a key. `status` None: not answered; `failed`: it ended in a fault of ours."""

    fingerprint: bytes
    begun_at_ms: int
    status: int | None
    answer: bytes | None
    failed: bool


class RepeatRows(Protocol):
    async def claim(self, repeat_id: bytes, fingerprint: bytes, now_ms: int) -> bool:
        """Whether nobody has it. Of two that ask at once one has it."""
        ...

    async def find(self, repeat_id: bytes) -> RepeatRow | None: ...

    async def keep(self, repeat_id: bytes, status: int, answer: bytes) -> None: ...

    async def fail(self, repeat_id: bytes) -> None: ...

    async def forget(self, repeat_id: bytes) -> None: ...

    async def sweep(self, before_ms: int, most: int) -> int:
        """Take away those that began before; how many it were."""
        ...
