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
    far = most + 1
    before: list[int] = []
    last = [j if j <= most else far for j in range(len(b) + 1)]
    for i, letter in enumerate(a, start=1):
        row = [far] * (len(b) + 1)
        row[0] = min(i, far)
        least = row[0]
        for j in range(max(1, i - most), min(len(b), i + most) + 1):  # further off, the distance is too large
            other = b[j - 1]
            cost = last[j - 1] if letter == other else 1 + min(last[j - 1], last[j], row[j - 1])
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row[j] = cost
            least = min(least, cost)
        if least > most:
            return far
        before, last = last, row
    return min(last[-1] + first, far)


def letter_set(text: str) -> int:
    """The letters of `text` as bits: spellings that are `n` edits apart differ in at most ``2 * n`` of them."""
    bits = 0
    for letter in text:
        bits |= 1 << (ord(letter) & 31)
    return bits
