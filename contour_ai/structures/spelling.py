"""How far two spellings are apart."""

from __future__ import annotations


def edits(a: str, b: str, most: int) -> int:
    """Letters to insert, drop, replace or swap with a neighbour to turn `a` into `b`; ``most + 1`` where it takes more.

    The restricted Damerau-Levenshtein distance (optimal string alignment). Another first letter counts twice, since
    typing errors are rare there and names such as parotid and carotid differ in nothing else.
    """
    if abs(len(a) - len(b)) > most:
        return most + 1
    first = 1 if a[:1] != b[:1] and a[:2] != b[1::-1] else 0
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1] + first, most + 1)


def letter_set(text: str) -> int:
    """The letters of `text` as bits: spellings that are `n` edits apart differ in at most ``2 * n`` of them."""
    bits = 0
    for letter in text:
        bits |= 1 << (ord(letter) & 31)
    return bits
