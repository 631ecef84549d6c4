"""Finds the place in a record for what an OpenTelemetry span holds, fast.

Spans of one line of code have the same attributes of the same types time after time. What becomes
of each (a number of the record, a word of its site, or a part of its side record) is decided once,
and after that a function made for it takes the values to their places.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple

from fillpath.instrumentation.payload import MAX_NAME, clean_text, snapshot
from fillpath.instrumentation.semconv import (
    PROCESS,
    PUBLISH,
    Event,
    EventType,
    Fill,
    Order,
    Position,
    Resource,
    Trading,
    span_name,
)
from fillpath.instrumentation.span_parts import (
    FOREIGN_EVENT_TYPE,
    KIND_OF_OPERATION,
    SCOPE_VERSION,
    SPAN_KIND,
    SPAN_NAME,
    SPAN_SCOPE,
    event_type_of,
)
from fillpath.instrumentation.spool import MAX_EXACT, NO_TIME, SLOTS, Field, FieldKind

MAX_TEXT: Final = 64
"""Characters of a text that a site keeps."""
MAX_VALUES: Final = 256
"""Different texts of one attribute after which it is one that hardly recurs."""
MAX_NAMES: Final = 4_096
"""The same of names: strategies, symbols, event types, spans."""
MAX_NOTED: Final = 100_000
"""Texts that new sites of one run keep, all together: so many odd sites make no odd spool."""
_MAX_PLANS: Final = 4_096
_KINDS: Final = {float: FieldKind.DOUBLE, int: FieldKind.INTEGER, bool: FieldKind.BOOLEAN}
_NEVER_RECUR: Final = frozenset(
    {Event.ID, Event.CORRELATION_ID, Order.ID, Order.CLIENT_ID, Fill.ID, Position.ID}
)
_OF_A_SITE: Final = {
    Resource.PORTFOLIO: "portfolio",
    Trading.STRATEGY: "strategy",
    Trading.SYMBOL: "symbol",
    Trading.VENUE: "venue",
    Event.HANDLER: "handler",
}
_OPERATIONS: Final = (PUBLISH, PROCESS)
_MANY_VALUES: Final = frozenset({*_OF_A_SITE, SPAN_NAME, Event.TYPE})


Ready = tuple[int, int, float, float, float, float, float, tuple[str, ...], "Plan"]
"""Site, event time, numbers, words and plan of a span."""

# One function for each kind of plan, like `emitter._TEMPLATE`: keys are looked up where they are
# wanted, and types compared one by one, so that no tuple is made of what goes into a row anyway.
_TEMPLATE: Final = """
def make(sites, plan, keys, unknown):
    {names} = keys
    def take(attributes):
        texts = ({texts})
        {numbers}
        if {checks}:
            return sites[texts], {time}, {row}, texts, plan
        return None
    return take
"""
_CHECKS: Final = {
    float: ("type({0}) is float", "{0}"),
    int: (f"type({{0}}) is int and -{MAX_EXACT} <= {{0}} <= {MAX_EXACT}", "float({0})"),
    bool: ("type({0}) is bool", "float({0})"),
}
_MAKERS: Final[dict[tuple[int, tuple[type, ...], bool], Any]] = {}


def _maker(words: int, types: tuple[type, ...], *, has_time: bool) -> Any:
    """Function that makes `Plan.take` for so many words and numbers of these types."""
    shape = words, types, has_time
    if shape not in _MAKERS:
        texts = [f"t{place}" for place in range(words)]
        numbers = ["t" for _ in range(has_time)] + [f"n{place}" for place in range(len(types))]
        checks = [f"type(t) is int and {NO_TIME} <= t < {-NO_TIME}" for _ in range(has_time)]
        row = []
        for place, of_type in enumerate(types):
            check, value = _CHECKS[of_type]
            checks.append(check.format(f"n{place}"))
            row.append(value.format(f"n{place}"))
        names = texts + [f"key_{name}" for name in numbers]
        source = _TEMPLATE.format(
            names="".join(f"{name}, " for name in names) if names else "_",
            texts="".join(f"attributes[{name}], " for name in texts),
            numbers="; ".join(f"{name} = attributes[key_{name}]" for name in numbers) or "pass",
            checks=" and ".join(checks) or "True",
            time="t" if has_time else "unknown",
            row=", ".join(row + ["0.0"] * (SLOTS - len(types))),
        )
        made: dict[str, Any] = {}
        exec(compile(source, __file__, "exec"), made)  # noqa: S102 - of the text above
        _MAKERS[shape] = made["make"]
    return _MAKERS[shape]


class Placed(NamedTuple):
    """Where the parts of a span go."""

    site: int
    numbers: tuple[float, ...]
    event_time: int
    rest: dict[str, Any] | None
    """What goes to the side record."""


class Plan:
    """What becomes of attributes with certain keys and types, on spans of one name and kind.

    Attributes:
        name: Name of the spans.
        kind: Kind of the spans.
        size: How many attributes there are.
        is_fast: Whether a record and its site have room for all of them.
        has_time: Whether one is the event's time.
        text_keys: Those that are words of a site.
        number_keys: Those that are numbers of a record.
        number_types: Types of the numbers.
        converts: Whether a number is no float.
        padding: For the numbers that a record has room for beside these.
        rest: Those that go to the side record.
        texts: Function that gives the words of attributes.
        numbers: Function that gives the numbers.
        sites: Sites by the words.
        take: Function that places attributes; None unless `is_fast`. It gives None, or raises
            KeyError or TypeError, if they are not such as the plan is for.
    """

    __slots__ = (
        "converts", "has_time", "is_fast", "kind", "name", "number_keys", "number_types", "numbers",
        "padding", "rest", "sites", "size", "take", "text_keys", "texts",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: str,
        keys: tuple[str, ...],
        types: tuple[type, ...],
        unique: frozenset[str],
    ) -> None:
        self.name = name
        self.kind = kind
        self.size = len(keys)
        self.has_time = False
        self.text_keys: list[str] = []
        self.number_keys: list[str] = []
        self.rest: list[str] = []
        number_types: list[type] = []
        for key, of_type in zip(keys, types, strict=True):
            if key == Event.TIME and of_type is int:
                self.has_time = True
            elif of_type is str and key not in unique:
                self.text_keys.append(key)
            elif of_type in _KINDS and len(self.number_keys) < SLOTS:
                self.number_keys.append(key)
                number_types.append(of_type)
            else:
                self.rest.append(key)
        self.number_types = tuple(number_types)
        self.converts = any(of_type is not float for of_type in number_types)
        self.is_fast = not self.rest and "" not in keys
        self.padding = (0.0,) * (SLOTS - len(number_types))
        self.texts = _getter(self.text_keys)
        self.numbers = _getter(self.number_keys)
        self.sites: dict[tuple[str, ...], int] = {}
        self.take: Callable[[Mapping[str, Any]], Ready | None] | None = None
        if self.is_fast:
            timed = (Event.TIME,) if self.has_time else ()
            make = _maker(len(self.text_keys), self.number_types, has_time=self.has_time)
            wanted = (*self.text_keys, *timed, *self.number_keys)
            self.take = make(self.sites, self, wanted or (0,), NO_TIME)

    def as_floats(self, numbers: tuple[Any, ...]) -> tuple[float, ...] | None:
        """Numbers as a record holds them; None if one is an integer that it cannot hold."""
        for number in numbers:
            if not -MAX_EXACT <= number <= MAX_EXACT and type(number) is int:
                return None
        return tuple(map(float, numbers))

    def attributes(
        self, texts: tuple[str, ...], numbers: tuple[float, ...], event_time: int
    ) -> dict[str, Any]:
        """Put the attributes together again."""
        whole: dict[str, Any] = {Event.TIME: event_time} if self.has_time else {}
        whole.update(zip(self.text_keys, texts, strict=True))
        for key, kind, number in zip(self.number_keys, self.number_types, numbers, strict=False):
            whole[key] = kind(number)
        return whole


def _getter(keys: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if not keys:
        return lambda _: ()
    if len(keys) == 1:
        (key,) = keys
        return lambda attributes: (attributes[key],)
    return itemgetter(*keys)


class SpanPlaces:
    """Finds sites for the spans of one instrumentation scope.

    Args:
        site: Gives a number to a site: `Recorder.site`.
        portfolio: Namespace of spans that name none.
        scope: Name and version of the scope.
        shared: What all scopes of a run know of how often texts recur.

    Attributes:
        latest: The plan that spans of a name had last.
        names: Names as the spool takes them, by what the host calls them.
    """

    def __init__(
        self,
        site: Callable[..., int],
        portfolio: str,
        scope: tuple[str, str],
        shared: Recurrence,
    ) -> None:
        self._site = site
        self._portfolio = portfolio
        self._scope = scope
        self._shared = shared
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self.latest: dict[str, Plan] = {}
        self.names: dict[str, str] = {}
        shared.when_one_does_not_recur(self._forget)

    def _forget(self) -> None:
        """Make plans anew: an attribute turned out not to recur, or there are too many."""
        self._plans = {}
        self.latest = {}

    def ready(self, name: str, kind: str, attributes: Mapping[str, Any]) -> Ready | None:
        """Place a span if it is like others before it; its values need not be snapshots.

        None means that it is not, or that a part of it goes to a side record: see `place`.
        """
        plan = self.latest.get(name)
        try:
            # As many keys, and those of the plan among them: so they are the plan's.
            if plan is None or len(attributes) != plan.size or plan.kind is not kind:
                raise KeyError
            if plan.take is not None and (placed := plan.take(attributes)) is not None:
                return placed
        except (KeyError, TypeError):  # a value that is no text need not be hashable
            pass
        plan = self._plan(name, kind, attributes)
        try:
            return None if plan.take is None else plan.take(attributes)
        except KeyError:
            return None  # the first of its site

    def clean_name(self, name: Any) -> str:
        """A name as the spool takes it."""
        clean = clean_text(str(name))
        if type(name) is str and len(self.names) < MAX_NAMES:
            self.names[name] = clean
        return clean

    def _plan(self, name: str, kind: str, attributes: Mapping[str, Any]) -> Plan:
        shape = name, kind, tuple(attributes), tuple(map(type, attributes.values()))
        plan = self._plans.get(shape)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                self._forget()  # an odd host: it begins anew, and is no more than slow
            plan = self._plans[shape] = Plan(*shape, self._shared.unique)
        self.latest[name] = plan
        return plan

    def place(self, name: str, kind: str, attributes: dict[str, Any]) -> Placed:
        """Place a span's name, kind and attributes, whose values are plain or snapshots."""
        attributes.pop("", None)  # no key that OpenTelemetry allows
        unique_name = SPAN_NAME in self._shared.unique and not _names_an_event(name)
        plan = self._plan("" if unique_name else name, kind, attributes)
        texts = plan.texts(attributes)
        rest: dict[str, Any] = {}
        site = plan.sites.get(texts)
        if site is None:
            words = dict(zip(plan.text_keys, texts, strict=True))
            site, rest = self._new_site(plan, words)
        if unique_name:
            rest[SPAN_NAME] = name
        numbers = plan.numbers(attributes)
        if plan.converts:
            floats = plan.as_floats(numbers)
            if floats is None:
                return self._with_large_integers(name, kind, attributes)
            numbers = floats
        for key in plan.rest:
            rest[key] = attributes[key]
        event_time = NO_TIME
        if plan.has_time:
            event_time = attributes[Event.TIME]
            if not NO_TIME <= event_time < -NO_TIME:
                event_time, rest[Event.TIME] = NO_TIME, event_time
        return Placed(site, numbers + plan.padding, event_time, rest or None)

    def _with_large_integers(self, name: str, kind: str, attributes: dict[str, Any]) -> Placed:
        large = {
            key: value
            for key, value in attributes.items()
            if type(value) is int and key != Event.TIME and not -MAX_EXACT <= value <= MAX_EXACT
        }
        small = {key: value for key, value in attributes.items() if key not in large}
        placed = self.place(name, kind, small)
        return placed._replace(rest={**(placed.rest or {}), **large})

    def _new_site(self, plan: Plan, texts: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Make a site; gives its number, and the texts that it does not keep."""
        rest: dict[str, Any] = {
            key: word
            for key, word in ((SPAN_NAME, plan.name), *texts.items())
            if not _is_short(key, word) or not self._shared.recurs(key, word)
        }
        parts, kept = _parts(plan.name, plan.kind, self._scope, self._portfolio, texts, rest)
        fields = tuple(
            Field(key, _KINDS[of_type])
            for key, of_type in zip(plan.number_keys, plan.number_types, strict=True)
        )
        site = self._site(*parts, fields=fields, texts=tuple(kept.items()), counted=False)
        if not rest:
            plan.sites[tuple(texts.values())] = site
        return site, rest


def _names_an_event(name: str) -> bool:
    operation, _, event_type = name.partition(" ")
    return bool(event_type) and operation in _OPERATIONS


def _is_short(key: str, word: str) -> bool:
    limit = MAX_NAME if key in _MANY_VALUES else MAX_TEXT
    return len(word) <= limit and (word.isascii() or snapshot({"": word}) == {"": word})


def _parts(
    name: str,
    kind: str,
    scope: tuple[str, str],
    portfolio: str,
    texts: dict[str, str],
    rest: dict[str, Any],
) -> tuple[tuple[str | None, ...], dict[str, str]]:
    """Parts of a site, and the texts that it has beside them."""
    kept = {key: word for key, word in texts.items() if key not in rest}
    event_type = FOREIGN_EVENT_TYPE
    if SPAN_NAME not in rest or Event.TYPE in kept:
        event_type = event_type_of(name if SPAN_NAME not in rest else "", kept.get(Event.TYPE))
    operation = PUBLISH  # a span that stands for no event is counted like one
    if event_type == EventType.DELIVERY and name.startswith(f"{PROCESS} "):
        operation, event_type = PROCESS, name.removeprefix(f"{PROCESS} ")
    elif kept.get(Event.TYPE) == event_type:
        del kept[Event.TYPE]
    if SPAN_NAME not in rest and name != span_name(operation, event_type):
        kept[SPAN_NAME] = name
    if kind != KIND_OF_OPERATION.get(operation, "INTERNAL"):
        kept[SPAN_KIND] = kind
    kept[SPAN_SCOPE] = scope[0]
    if scope[1]:
        kept[SCOPE_VERSION] = scope[1]
    named = {part: kept.pop(key) if kept.get(key) else None for key, part in _OF_A_SITE.items()}
    parts = (
        operation,
        event_type,
        named["portfolio"] or portfolio,
        named["strategy"],
        named["symbol"],
        named["venue"],
        named["handler"],
    )
    return parts, kept


class Recurrence:
    """Counts how many different texts an attribute has, so that odd hosts make no odd spools."""

    def __init__(self) -> None:
        self.unique = _NEVER_RECUR
        self._words: dict[str, set[str]] = {}
        self._noted = 0
        self._lock = threading.RLock()
        self._forgetting: list[Callable[[], None]] = []

    def when_one_does_not_recur(self, forget: Callable[[], None]) -> None:
        """Call this when an attribute turns out not to recur."""
        self._forgetting.append(forget)

    def recurs(self, key: str, word: str) -> bool:
        """Note a text of an attribute in a new site; tells whether the site should keep it."""
        limit = MAX_NAMES if key in _MANY_VALUES else MAX_VALUES
        with self._lock:
            words = self._words.setdefault(key, set())
            if word not in words:
                if len(words) >= limit:
                    self._does_not_recur(key)
                    return False
                words.add(word)
            self._noted += 1  # at most one for each attribute of a new site
            return self._noted <= MAX_NOTED

    def _does_not_recur(self, key: str) -> None:
        if key not in self.unique:
            self.unique |= {key}
            for forget in self._forgetting:
                forget()
