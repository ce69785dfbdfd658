"""Find the rule by which a layer's number of steps follows from the input's, out of as few sizes as will do."""

from collections.abc import Callable, Sequence

import numpy as np

from msafusion.attach.timing import LengthRule

Pair = tuple[int, int]
"""(steps of the input, steps of the layer)."""
MAX_RUNS = 20
MAX_RULES = 40_000


def fitting(pairs: Sequence[Pair]) -> list[LengthRule]:
    """All rules that give these pairs, two at least of which differ in both numbers."""
    (low, least), (high, most) = min(pairs), max(pairs)
    apart, more = high - low, most - least
    if apart <= 0 or more <= 0:
        return []
    straight = LengthRule(more // apart, least - more // apart * low, 1)
    rules = [straight] if all(straight.steps(before) == after for before, after in pairs) else []
    first, last = apart // (more + 1) + 1, apart // (more - 1) if more > 1 else 2 * apart
    if last * (last - first + 1) <= MAX_RULES:
        for stride in range(max(first, 2), last + 1):
            # before + offset lies in [after * stride, after * stride + stride) for every pair
            start = max(after * stride - before for before, after in pairs)
            end = min(after * stride - before for before, after in pairs) + stride
            rules += [LengthRule(1, offset, stride, keeps_order=False) for offset in range(start, end)]
    return rules


def next_size(
    rules: Sequence[LengthRule], low: int, high: int, tried: set[int], likely: LengthRule | None = None
) -> int | None:
    """The number of steps that tells best which of the rules holds; None: none does.

    Where one is `likely`, its own count should leave the fewest others; else any count.
    """
    some = list(range(high, low - 1, -1))[: 4 * max(rule.stride for rule in rules)]
    some = [size for size in some[:: max(1, len(some) // 64)] if size not in tried]
    factors, offsets, strides = np.array([(rule.factor, rule.offset, rule.stride) for rule in rules]).T
    best, fewest = None, len(rules)
    for size in some:
        after = (factors * size + offsets) // strides
        left = (
            int((after == likely.steps(size)).sum()) if likely else int(np.unique(after, return_counts=True)[1].max())
        )
        if left < fewest:
            best, fewest = size, left
    return best


def likeliest(rules: Sequence[LengthRule]) -> LengthRule | None:
    """What layers that halve their steps make together, a part of a stride counting as a step."""
    return next((one for one in rules if one.offset == one.stride - 1 and one.stride & one.offset == 0), None)


def find_rules(
    pairs: list[list[Pair]], measure: Callable[[int], list[int] | None], low: int, high: int, steps: int
) -> list[LengthRule | None]:
    """One rule for each stream, or None where none fits or several do that differ.

    Args:
        pairs: for each stream, what is known; more is added.
        measure: input steps -> each stream's steps, or None where the network does not take so many.
        low: the least input steps that the network is known to take.
        high: the most.
        steps: those of the example, which need not be exceeded if all below tells.
    """
    candidates = [fitting(known) for known in pairs]
    tried = {before for known in pairs for before, _ in known}
    failed = 0
    for _ in range(MAX_RUNS):
        open_ones = [rules for rules in candidates if len(rules) > 1]
        size = None
        for rules in open_ones:
            likely = None if failed else likeliest(rules)
            size = next_size(rules, low, min(steps, high), tried, likely)
            size = size or next_size(rules, low, high, tried, likely)
            if size is not None:
                break
        if size is None or failed > 2:
            break
        tried.add(size)
        counts = measure(size)
        if counts is None:
            failed += 1
            continue
        for i, count in enumerate(counts):
            pairs[i].append((size, count))
            candidates[i] = [rule for rule in candidates[i] if rule.steps(size) == count]
    found = [_only(rules, steps, failed > 0) for rules in candidates]
    for i, rule in enumerate(found):
        counts = {after for _, after in pairs[i]}
        if rule is None or rule.stride == 1 or len(counts) > 2:
            continue
        # one change of count fits some rule whatever makes it, such as a cut to so many steps: does the next come?
        beyond = (max(counts) + 1) * rule.stride - rule.offset
        at = measure(beyond)
        if at is not None:
            pairs[i].append((beyond, at[i]))
            found[i] = rule if at[i] == rule.steps(beyond) else None
    return found


def _only(rules: Sequence[LengthRule], steps: int, whole: bool) -> LengthRule | None:
    """The one rule; where only `whole` strides can be tried, the one that counts a part of a stride as a step."""
    if len(rules) == 1 or not rules:
        return rules[0] if rules else None
    if all(rule.steps(size) == rules[0].steps(size) for rule in rules[1:] for size in range(1, steps + 1)):
        return rules[0]
    parts = [rule for rule in rules if rule.offset == rule.stride - 1 and steps % rule.stride == 0]
    return parts[0] if whole and len(parts) == 1 else None
