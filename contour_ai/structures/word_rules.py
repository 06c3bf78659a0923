"""Rules that know a target, a helper structure, a support or another image by a word of its name."""

from __future__ import annotations

import re

from contour_ai.structures.name_class import Kind, NameClass, NameParts, aside, ask
from contour_ai.structures.organ_names import organ_within, read_organ
from contour_ai.structures.spelling import edits
from contour_ai.structures.vocabulary import is_organ_word
from contour_ai.structures.words import plain_text, side_words, word_list, words_of

TARGET = re.compile(r"gtv|ctv|ptv|itv")

TARGET_TYPED_WRONG = re.compile(r"(?:g.?t.?v|c.?t.?v|p.?t.?v|gvt|cvt|pvt)[np]?")

DOSE = re.compile(r"c?gy\b|\[gy\]|\[%\]|\d ?%|^(?:d|v|idl)[ _]?\d{2,}(?:\.\d+)?$|^\W*\d{3,5}(?:\.\d+)?\W*$")

DATE = re.compile(
    r"\d{1,2}[ _-]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|okt|dez)|(?:19|20)\d{6}"
)


def sorted_last(parts: NameParts) -> NameClass | None:
    """Names that begin with z, which TG-263 keeps for structures that no dose is reported for."""
    match = re.match(r"z+[ _^.-]|z+$", parts.text) or re.match(
        r"z+(?=[A-Z0-9])", plain_text(parts.name).strip()
    )
    if match is None:
        return None
    prefix = match.group()
    pattern = f"{prefix}*" if not prefix.isalpha() else "re:^z+[A-Z0-9]"
    rule = "begins with z: not used for dose (TG-263)"
    return aside(parts, Kind.HELPER, rule, pattern)


def target(parts: NameParts) -> NameClass | None:
    match = TARGET.search(parts.text)
    if match is not None:
        what = match.group().upper()
        before = organ_within(words_of(parts.name[: match.start()]))
        if before is not None and re.search(
            r"[-~\\]|minus|nos|ohne|sans|no|sub|without|excl|[+&]", parts.text
        ):
            return aside(
                parts, Kind.PART, f"an organ without, or joined to, a {what}", f"*{what}*", before.organs
            )
        return aside(parts, Kind.TARGET, f"a {what}", f"*{what}*")
    word = parts.has("targets")
    soft = parts.has("soft_targets")
    if word == soft is not None:
        organ = organ_within(tuple(w for w in parts.words if w != soft))
        if organ is not None:
            return ask(parts, f'"{soft}" and an organ: a target, or the organ?', organ.organs)
    if word is None:
        word = next(
            (w for w in sorted(word_list("inside")) if w in parts.text and _belongs(w, "targets")), None
        )
    if word is not None:
        return aside(parts, Kind.TARGET, f'"{word}": a target', word_pattern(word))
    for word in re.findall("[a-z]+", parts.text):
        telling = len(word) > 3 or word in ("gvt", "cvt", "pvt") or any(w.isdigit() for w in parts.words)
        if telling and TARGET_TYPED_WRONG.fullmatch(word):
            return aside(parts, Kind.TARGET, f'"{word}": a target, misspelt', None)
    return None


def other_image(parts: NameParts) -> NameClass | None:
    """The outline of the body in another image."""
    image = next(
        (
            w
            for w in sorted(word_list("images"))
            if re.search(rf"(?<![a-z]){w}(?![a-z])|body ?{w}", parts.text)
        ),
        None,
    )
    words = [w for w in parts.words if w not in word_list("images") and not w.isdigit()]
    body = next((w for w in words if w in word_list("bodies")), None) or (
        "body" if "body" in parts.text else None
    )
    date = DATE.search(parts.text)
    if body is None:
        if image is None or not (date or all(w in word_list("weak") or len(w) < 2 for w in words)):
            return None
        return aside(parts, Kind.OTHER_IMAGE, f'"{image}": an image, not an organ', None)
    if (
        image is None
        and date is None
        and not any(w in word_list("images") or w.endswith("ct") for w in parts.words)
    ):
        return None
    pattern = f"re:body.*{image}|{image}.*body" if image and body == "body" else None
    return aside(parts, Kind.OTHER_IMAGE, "the body's outline in another image", pattern)


NUMBERS = re.compile(r"(?=.*\d)(?:\d+(?:[.,]\d+)?|(?<![a-z])[mc]m(?![a-z])|all(?![a-z])|[\s+\-/_.,()])+")

NOT_USED = re.compile(
    r"(?<![a-z])(?:not (?:to be |in )?used?|do not|dnu|obsolete|superseded|nicht (?:benutz|verwend)"
    r"|ne pas utiliser|non usare|no usar|nao usar|niet gebruik|nie uzywac)"
)


def unused(parts: NameParts) -> NameClass | None:
    """Names without a word, and those that somebody marked as not to be used."""
    match = NOT_USED.search(parts.text)
    if match is not None:
        return aside(parts, Kind.HELPER, f'"{match.group()}": marked as not to be used', None)
    if NUMBERS.fullmatch(parts.text):
        return aside(parts, Kind.HELPER, "numbers or distances alone", None)
    return None


def support(parts: NameParts) -> NameClass | None:
    return by_word(parts, "supports", Kind.SUPPORT, "a support, device or marker")


def helper(parts: NameParts) -> NameClass | None:
    if DOSE.search(parts.text):
        return aside(parts, Kind.HELPER, "a dose level", _dose_pattern(parts.text))
    found = by_word(parts, "helpers", Kind.HELPER, "a helper structure")
    soft = parts.has("soft_helpers")
    if found is not None or soft is None:
        return found
    organ = organ_within(parts.words)
    if organ is not None:
        return ask(parts, f'"{soft}" and an organ: the organ, or a part of it?', organ.organs)
    unknown = [w for w in parts.words if len(w) > 3 and not w.isdigit() and not is_known(w)]
    if unknown:
        return None
    return aside(parts, Kind.HELPER, f'"{soft}": a helper structure', word_pattern(soft))


def weak_words(parts: NameParts) -> NameClass | None:
    """Words that say nothing of an organ, where there are no others ("TEST 2", "new plan")."""
    letters = [w for w in parts.words if not w.isdigit()]
    if letters and all(len(w) == 1 or is_known(w) for w in letters) and any(len(w) > 2 for w in letters):
        if any(len(read.organs) for read in [read_organ(tuple(letters))] if read is not None):
            return None
        return aside(parts, Kind.HELPER, "none of its words names an organ", None)
    return None


def by_word(parts: NameParts, key: str, kind: Kind, what: str) -> NameClass | None:
    word = parts.has(key)
    if word is None:
        word = next((w for w in sorted(word_list("inside")) if w in parts.text and _belongs(w, key)), None)
    if word is not None:
        return aside(parts, kind, f'"{word}": {what}', word_pattern(word))
    for word in parts.words:
        meant = _misspelt_word(word, key)
        if meant is not None:
            return aside(parts, kind, f'"{word}", read as "{meant}": {what}', word_pattern(word))
    return None


def is_known(word: str) -> bool:
    keys = ("helpers", "soft_helpers", "weak", "cuts", "joins", "images", "nodes", "supports")
    return word in side_words() or any(word in word_list(key) for key in keys)


def _belongs(word: str, key: str) -> bool:
    return any(entry.startswith(word) for entry in word_list(key))


def _misspelt_word(word: str, key: str) -> str | None:
    """The word of a list that `word` is one letter away from; never where it is part of an organ's name."""
    if len(word) < 5 or is_organ_word(word):
        return None
    return next((w for w in sorted(word_list(key)) if len(w) > 4 and edits(word, w, 1) == 1), None)


def word_pattern(word: str) -> str:
    return f"*{word}*" if len(word) > 3 else f"re:(?<![a-z]){re.escape(word)}(?![a-z])"


def _dose_pattern(text: str) -> str | None:
    return next((f"*{sign}*" for sign in ("[gy]", "[%]", "cgy", "%") if sign in text), None)
