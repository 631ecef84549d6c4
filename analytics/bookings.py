"""What a fill does to an account: the rules engines book by, and which of them explains a change.

An engine rounds what it books to the currency, up or down. `explain` calls a difference rounding
only where the exact amount is no whole number of minor units, and only up to one of them a booking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from fillpath.analytics.exact import ZERO, minor_unit, quotient, rounded
from fillpath.analytics.position_book import FLOAT_NOISE, Execution

_RATE_MAY_MOVE: Final = Decimal("0.5")
_ON_THE_GRID: Final = Decimal("1e-6")
"""Part of a minor unit that comes from divisions, and is no rounding of an engine."""
_TELLS_A_RATE: Final = 1000
"""Below this many minor units, an amount does not tell a rate."""

Amounts = Mapping[str, Decimal]
"""Amounts by currency."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How an engine books a fill.

    Attributes:
        name: Shown when a reconciliation needs it.
        amounts: What it books, before commission, by currency.
        exact: The same before it is rounded.
        pays_notional: Whether the whole price changes hands, so that a holding has its cost in
            the account, or only profits do.
        not_booked: What of the price the engine leaves out, by its own rule.
        is_margined: Whether positions are paid what they gain as they gain it, so that a fill pays
            what is left of its profit at most.
    """

    name: str
    amounts: Amounts
    exact: Amounts
    pays_notional: bool = False
    not_booked: Decimal = ZERO
    is_margined: bool = False


def rules_for(
    execution: Execution, account_type: str, *, has_base: bool, digits: Mapping[str, int]
) -> tuple[Rule, ...]:
    """List the rules by which a fill may be booked, the likeliest first."""
    fill = execution.fill

    def rule(
        name: str, exact: Amounts, *, pays_notional: bool = True, whole: Decimal = ZERO
    ) -> Rule:
        amounts = {c: rounded(amount, digits[c]) for c, amount in exact.items()}
        not_booked = whole - amounts[fill.currency] if whole else ZERO
        return Rule(name, amounts, exact, pays_notional, not_booked)

    settlement = fill.settlement_currency
    profit = Rule(
        "profit", {settlement: execution.booked_realized}, {settlement: execution.exact_realized}
    )
    if execution.margin is not None:
        return _margin_rules(execution, execution.margin, digits)
    if fill.is_inverse:
        return (profit,)
    price = -fill.sign * fill.price
    legs: dict[str, Decimal] = {}
    if fill.base_currency and not has_base and fill.base_currency != fill.currency:
        legs[fill.base_currency] = fill.sign * fill.quantity
    flow = -fill.sign * execution.notional
    notional = rule("notional", {fill.currency: flow, **legs})
    if account_type == "MARGIN":
        return profit, rule("premium", {fill.currency: flow})
    rules = [notional]
    whole = notional.amounts[fill.currency]
    if ZERO < execution.closed < fill.quantity:
        part = price * execution.closed * fill.multiplier
        rules.append(rule("closed part only", {fill.currency: part, **legs}, whole=whole))
    if fill.multiplier != 1:
        part = price * fill.quantity
        rules.append(rule("without multiplier", {fill.currency: part, **legs}, whole=whole))
    if account_type not in ("CASH", "BETTING"):
        rules.insert(0, profit)
    else:
        rules.append(profit)
    return tuple(rules)


def _margin_rules(
    execution: Execution, paid: Decimal, digits: Mapping[str, int]
) -> tuple[Rule, ...]:
    """A fill of a future pays what is left of its profit; or nothing, if the day's end pays it."""
    currency = execution.fill.settlement_currency
    rest = rounded(execution.booked_realized - paid, digits[currency])
    exact = execution.exact_realized - paid
    return (
        Rule("rest of the profit", {currency: rest}, {currency: exact}, is_margined=True),
        Rule("variation margin", {currency: ZERO}, {currency: ZERO}, is_margined=True),
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an account's change follows from fills.

    Attributes:
        rules: The rule each execution was booked by.
        change: What the account's totals changed by.
        rates: What one unit of a foreign currency came to in the account's; empty if none was.
        is_sharp: Whether the rates are exact enough to be used again.
    """

    rules: tuple[Rule, ...]
    change: Amounts
    rates: Amounts = field(default_factory=dict)
    is_sharp: bool = False


def explain(
    executions: Sequence[Execution],
    change: Amounts,
    *,
    account_type: str,
    base_currency: str | None,
    digits: Mapping[str, int],
    last_rates: Amounts,
    market_rates: Sequence[Amounts] = (),
    may_solve: bool = True,
    doubt: Amounts | None = None,
) -> Explanation | None:
    """Find the rules by which the executions give the account's change.

    Args:
        executions: Fills booked between two statements of the account.
        change: What the account's totals changed by, zeros left out.
        account_type: `CASH`, `MARGIN`, `BETTING` or empty.
        base_currency: The account's only currency, if it has one.
        digits: Decimal places of each currency.
        last_rates: Rates of earlier fills, by foreign currency.
        market_rates: Rates that the market had just then, each by foreign currency.
        may_solve: Whether a rate that nothing else tells may be taken from the change itself.
        doubt: By how much the change is uncertain, where the account is kept in doubles.

    Returns:
        The explanation, or None if no rule gives the change.
    """
    options = [
        rules_for(e, account_type, has_base=base_currency is not None, digits=digits)
        for e in executions
    ]
    for choice in range(max(map(len, options), default=0)):
        rules = tuple(option[min(choice, len(option) - 1)] for option in options)
        parts = list(_parts(executions, rules))
        expected = _sums(parts)
        noise = {
            c: _tolerance(executions, c, digits) + (doubt or {}).get(c, ZERO)
            for c in {*expected, *change}
        }
        if not {*expected} - {base_currency} or base_currency is None:
            if _is_rounded(executions, rules, change, digits, doubt or {}):
                return Explanation(rules, change)
            continue
        wanted = change.get(base_currency, ZERO)
        known = (last_rates, *market_rates)
        for guess in _rates(expected, wanted, base_currency, known, noise):
            if guess.is_solved and not may_solve:
                continue
            brought = sum(
                (bring(*part, base_currency, guess.rates, digits)[1] for part in parts), ZERO
            )
            if abs(wanted - brought) <= guess.tolerance:
                return Explanation(rules, change, guess.rates, guess.is_sharp)
    return None


def bring(
    currency: str, amount: Decimal, base: str | None, rates: Amounts, digits: Mapping[str, int]
) -> tuple[str, Decimal]:
    """Bring an amount to an account's only currency, if it has one and a rate is known."""
    if base is None or currency == base or currency not in rates:
        return currency, amount
    return base, rounded(amount * rates[currency], digits[base])


def _parts(executions: Iterable[Execution], rules: Iterable[Rule]) -> Iterator[tuple[str, Decimal]]:
    """Yield what the account is to book, each amount that the engine rounds by itself."""
    for execution, rule in zip(executions, rules, strict=True):
        yield from rule.amounts.items()
        yield execution.fill.commission_currency, -execution.fill.commission


def _sums(parts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for currency, amount in parts:
        if amount:
            total[currency] = total.get(currency, ZERO) + amount
    return total


def _is_rounded(
    executions: Sequence[Execution],
    rules: Sequence[Rule],
    change: Amounts,
    digits: Mapping[str, int],
    doubt: Amounts,
) -> bool:
    """Tell whether a change is what the rules give exactly, each booking rounded up or down."""
    exact: dict[str, Decimal] = {}
    slack: dict[str, Decimal] = {}
    for execution, rule in zip(executions, rules, strict=True):
        fill = execution.fill
        bookings = [*rule.exact.items(), (fill.commission_currency, -fill.commission)]
        for currency, amount in bookings:
            exact[currency] = exact.get(currency, ZERO) + amount
            unit = minor_unit(digits[currency])
            if abs(amount - rounded(amount, digits[currency])) > unit * _ON_THE_GRID:
                slack[currency] = slack.get(currency, ZERO) + unit
    for currency in {*exact, *change}:
        unit = minor_unit(digits[currency])
        gross = sum((e.notional for e in executions), ZERO)
        # An engine that reckons in doubles knows about 15 digits of the notional.
        noise = (gross * FLOAT_NOISE).quantize(unit) + unit * _ON_THE_GRID
        off = abs(change.get(currency, ZERO) - exact.get(currency, ZERO))
        if off > slack.get(currency, ZERO) + noise + doubt.get(currency, ZERO):
            return False
    return True


def _tolerance(
    executions: Sequence[Execution], currency: str, digits: Mapping[str, int]
) -> Decimal:
    gross = sum((e.notional for e in executions), ZERO)
    unit = minor_unit(digits[currency])
    # An engine that reckons in doubles knows about 15 digits of the notional.
    return unit * len(executions) + (gross * FLOAT_NOISE).quantize(unit)


@dataclass(frozen=True, slots=True)
class _Guess:
    """Rates that an engine may have used, and how far they may miss."""

    rates: Amounts
    tolerance: Decimal
    is_sharp: bool = False
    is_solved: bool = False


def _rates(
    expected: Amounts, wanted: Decimal, base: str, known: Sequence[Amounts], noise: Amounts
) -> Iterator[_Guess]:
    """Yield rates that may have brought the expected amounts to the wanted one, best first.

    The engine's rates are not in its events, but the market's are, mostly. One foreign amount
    tells its rate, too; a small one does so badly, and then an earlier rate is better, if it
    gives the same amount.
    """
    tolerance = noise.get(base, ZERO)
    foreign = {c: amount for c, amount in expected.items() if c != base}
    if not foreign:
        yield _Guess({}, tolerance)
        return
    last, *market = ({c: rates[c] for c in foreign if c in rates} for rates in known)
    for rates in market:
        if len(rates) == len(foreign):
            yield _Guess(rates, ZERO, is_sharp=True)
    nearest = next((rates for rates in market if len(rates) == len(foreign)), last)
    unknown = [c for c in foreign if c not in nearest]
    if len(unknown) > 1:
        return
    solved = unknown[0] if unknown else max(foreign, key=lambda c: abs(nearest[c] * foreign[c]))
    others = sum((nearest[c] * foreign[c] for c in foreign if c != solved), ZERO)
    rest = wanted - expected.get(base, ZERO) - others
    is_sharp = abs(rest) >= tolerance * _TELLS_A_RATE
    guesses = [] if unknown else [_Guess(last, ZERO)] if len(last) == len(foreign) else []
    if foreign[solved]:
        rate = quotient(rest, foreign[solved])
        before = nearest.get(solved)
        if rate > 0 if before is None else abs(rate - before) <= before * _RATE_MAY_MOVE:
            rates = {**nearest, solved: rate}
            guess = _Guess(rates, ZERO, is_sharp or before is None, is_solved=True)
            guesses.insert(0 if is_sharp else len(guesses), guess)
    for slack in (ZERO, tolerance):
        for guess in guesses:
            yield replace(guess, tolerance=slack, is_solved=guess.is_solved or bool(slack))
