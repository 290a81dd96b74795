"""Stars for the secrets in a text, however it writes them. Pure; only texts of instances that have secrets come here.

Two passes. The first finds whole secrets as they are, and as JSON, ``repr``, addresses, HTML, hex and Base64 write them. It runs before
a text is cut. The second finds pieces: what others have cut, such as the inputs that pydantic prints.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote

from nbbatch.values.classes import MASK

LEAST_SECRET = 4
"""Secrets of fewer characters are left in texts: nothing could be read otherwise."""
PIECE = 12
"""Pieces of so many characters are hidden wherever they stand; shorter ones, of 4 or more, where an ellipsis shows a cut."""
_GRAM, _STRIDE = 6, 7
"""Every piece holds one of the six characters that are looked at every seven."""
_ENTITIES = {
    '"': "quot|#0*34|#[xX]0*22",
    "'": "apos|#0*39|#[xX]0*27",
    "&": "amp|#0*38",
    "<": "lt|#0*60",
    ">": "gt|#0*62",
}
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
_CUT = re.compile(r"\s*(?:\.{3}|…)\s*")


@lru_cache(maxsize=64)
def hider(secrets: tuple[str, ...]) -> Hider:
    """What hides some secrets, made once."""
    return Hider(secrets)


class Hider:
    r"""Puts stars for secrets.

    >>> hide = Hider(['a/b"cd'])
    >>> hide('GET /?key=a%2Fb%22cd'), hide('{"k": "a/b\\"cd"}'), hide("Basic dTphL2IiY2Q=")
    ('GET /?key=**********', '{"k": "**********"}', 'Basic **********')
    >>> Hider(["sk-0123456789abcdef"])("input_value='sk-01234...cdef'")
    "input_value='**********...**********'"
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({each for each in secrets if len(each) >= LEAST_SECRET}, key=len, reverse=True)
        self._whole = [(_longest_word(each), re.compile("".join(map(_written, each)))) for each in known]
        self._cores = {core for each in known for core in _base64(each) if len(core) >= LEAST_SECRET}
        forms = {form for each in known for form in _forms(each)}
        self._grams: dict[str, list[tuple[str, int]]] = {}
        for form in forms:
            for at in range(len(form) - _GRAM + 1):
                self._grams.setdefault(form[at : at + _GRAM], []).append((form, at))
        ends = range(LEAST_SECRET, PIECE)  # longer ones are found without an ellipsis
        self._heads = {(form[:n][-LEAST_SECRET:], form[:n]) for form in forms for n in ends if n <= len(form)}
        self._tails = {(form[-n:][:LEAST_SECRET], form[-n:]) for form in forms for n in ends if n <= len(form)}
        self._before, self._after = _by_key(self._heads), _by_key(self._tails)

    def __call__(self, text: str) -> str:
        """The text without secrets and pieces of them."""
        return self.pieces(self.whole(text))

    def whole(self, text: str) -> str:
        """The text without whole secrets."""
        for word, pattern in self._whole:
            if word in text:
                text = pattern.sub(MASK, text)
        for core in self._cores:
            at = text.find(core)
            while at >= 0:
                first, last = at, at + len(core)
                while first > 0 and text[first - 1] in _BASE64:
                    first -= 1
                while last < len(text) and text[last] in _BASE64:
                    last += 1
                text = f"{text[:first]}{MASK}{text[last:]}"
                at = text.find(core, first + len(MASK))
        return text

    def pieces(self, text: str) -> str:
        """The text without pieces of secrets."""
        spans = sorted([*self._long(text), *self._cut(text)])
        parts, end = list[str](), 0
        for first, last in spans:
            if last > end:
                parts += [text[end:first], MASK] if first >= end or not parts else []
                end = last
        return "".join([*parts, text[end:]]) if spans else text

    def _long(self, text: str) -> Iterator[tuple[int, int]]:
        end = 0
        for at in range(0, len(text) - _GRAM + 1, _STRIDE):
            if at + _GRAM <= end:
                continue
            for form, place in self._grams.get(text[at : at + _GRAM], ()):
                back = ahead = 0
                while back < min(at, place) and text[at - back - 1] == form[place - back - 1]:
                    back += 1
                while at + ahead < len(text) and place + ahead < len(form) and text[at + ahead] == form[place + ahead]:
                    ahead += 1
                if back + ahead >= PIECE:
                    end = max(end, at + ahead)
                    yield at - back, at + ahead

    def _cut(self, text: str) -> Iterator[tuple[int, int]]:
        for cut in _CUT.finditer(text):
            first, last = cut.span()
            for head in self._before.get(text[max(0, first - LEAST_SECRET) : first], ()):
                if text.endswith(head, 0, first):
                    yield first - len(head), first
                    break
            for tail in self._after.get(text[last : last + LEAST_SECRET], ()):
                if text.startswith(tail, last):
                    yield last, last + len(tail)
                    break


def _by_key(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Texts by what they are found by, the longest first."""
    found: dict[str, list[str]] = {}
    for key, text in sorted(pairs, key=lambda pair: -len(pair[1])):
        found.setdefault(key, []).append(text)
    return found


def _longest_word(secret: str) -> str:
    """The longest part that every form but Base64 and hex leaves as it is; "" is in every text."""
    return max(re.findall("[A-Za-z0-9]+", secret), key=len, default="")


def _written(char: str) -> str:
    """A pattern of all that may stand for one character."""
    if char.isascii() and char.isalnum():
        return char
    data = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass").hex()
    ways = [
        rf"\\*{re.escape(char)}",
        "".join(f"%(?:25)*(?i:{byte:02x})" for byte in data),
        r"\\+x" + r"\\+x".join(f"(?i:{byte:02x})" for byte in data),
        "".join(rf"\\+u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4)),
        rf"\\+(?:x(?i:{ord(char):02x})|U(?i:{ord(char):08x}))",
    ]
    if char in _ENTITIES:
        ways.append(f"&(?:amp;)*(?:{_ENTITIES[char]});")
    if char in "\n\r\t":
        ways.append(rf"\\+{repr(char)[2]}")
    if char == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"


def _forms(secret: str) -> set[str]:
    """A secret as it is most often written."""
    data = secret.encode("utf-8", "surrogatepass")
    texts = {
        secret,
        repr(secret)[1:-1],
        repr(data)[2:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
    return (
        texts
        | {quote(data, safe=""), quote(data), data.hex()}
        | {each for each in _base64(secret) if len(each) >= PIECE}
    )


def _base64(secret: str) -> Iterator[str]:
    """What Base64 makes of it wherever it stands: without the letters at both ends that its neighbours have a part in. And hex."""
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        text = b64encode(bytes(before) + data + b"\0\0").decode()
        core = text[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield from {core, core.replace("+", "-").replace("/", "_")}
    yield from {data.hex(), data.hex().upper()}
