from collections.abc import Callable
from typing import Any, final

INTERFACE: int

@final
class PlainRow:
    def __len__(self) -> int: ...
    def __getitem__(self, place: Any, /) -> Any: ...

@final
class Emitter: ...

class Sequences:
    def take(self) -> int: ...

def emitter(
    events: list[Any],
    flush: Callable[[], None],
    sequences: Sequences,
    clock: Callable[[], int] | None,
    twin: Callable[..., tuple[int, int] | None],
    place: int,
    fields: int,
    names: tuple[str, ...],
    far: int,
    /,
) -> Callable[..., tuple[int, int] | None]: ...
def pack_rows(rows: list[Any], slots: int, /) -> tuple[bytes, list[bytes]] | None: ...
def take_as_float(kind: type[float], /) -> None: ...
