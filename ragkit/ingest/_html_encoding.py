"""The encoding of an HTML page, determined as in browsers (WHATWG: HTML and Encoding standards)."""

from __future__ import annotations

import codecs
import re
from functools import cache
from html.parser import HTMLParser

from typing_extensions import override

from ragkit.errors import InvalidInputError

# Labels of the Encoding standard by Python's codec. Browsers read several labels as a superset of the named encoding:
# "iso-8859-1" as Windows-1252, for instance, or "gb2312" as GB 18030.
_LABELS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8 "
    "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff unicodefffe utf-16 utf-16be utf-16le",
    "cp866": "866 cp866 csibm866 ibm866",
    "iso8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988",
    "iso8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e "
    "iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7 "
    "iso_8859-7:1987 sun_eu_greek",
    "iso8859-8": "csiso88598e csiso88598i csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-8859-8-i iso-ir-138 "
    "iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 logical visual",
    "iso8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8-u": "koi8-ru koi8-u",
    "mac-roman": "csmacintosh mac macintosh x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "cp1250": "cp1250 windows-1250 x-cp1250",
    "cp1251": "cp1251 windows-1251 x-cp1251",
    "cp1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 "
    "iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252 x-user-defined",
    "cp1253": "cp1253 windows-1253 x-cp1253",
    "cp1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 "
    "windows-1254 x-cp1254",
    "cp1255": "cp1255 windows-1255 x-cp1255",
    "cp1256": "cp1256 windows-1256 x-cp1256",
    "cp1257": "cp1257 windows-1257 x-cp1257",
    "cp1258": "cp1258 windows-1258 x-cp1258",
    "gb18030": "chinese csgb2312 csiso58gb231280 gb18030 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "iso2022-jp": "csiso2022jp iso-2022-jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "cp949": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 "
    "windows-949",
    "iso2022-kr": "csiso2022kr iso-2022-kr",
    "hz": "hz-gb-2312",
    "": "iso-2022-cn iso-2022-cn-ext replacement",
}
_CHARSET = re.compile(r"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.IGNORECASE)
_XML_ENCODING = re.compile(r"""\bencoding\s*=\s*["']([^"']+)["']""")
_AT_ONCE = 1 << 16  # characters
_ENOUGH = 4  # non-ASCII characters in valid UTF-8; rarely valid in other encodings
_ERRORS = "ragkit-web"


def decode_page(page: bytes, encoding: str | None) -> str:
    """Decode an HTML page as browsers do.

    A byte order mark takes precedence, then the declaration (``<meta charset>``, ``<meta http-equiv>`` or
    ``<?xml encoding?>``). A declaration is ignored if it contradicts the bytes: pages converted to UTF-8 often keep the
    old one.

    Args:
        page: The bytes.
        encoding: The encoding detected by `file_facts`; None if it found none.

    Returns:
        The text; invalid bytes become U+FFFD.

    Raises:
        InvalidInputError: If the declared encoding is not supported, or if the encoding cannot be determined.
    """
    if encoding is not None and encoding.startswith(("utf-16", "utf-32", "utf-8-sig")):
        return page.decode(encoding, "replace")
    if page[:2] in {b"<\0", b"\0<"}:
        return page.decode("utf-16-le" if page[:1] == b"<" else "utf-16-be", "replace")
    label = declared_charset(page)
    codec = codec_of(label or "utf-8")
    if codec == "utf-8" or (encoding == "utf-8" and len(re.findall(rb"[\xc2-\xf4]", page)) >= _ENOUGH):
        return page.decode(encoding or _guess(page), _ERRORS)
    if not codec:
        raise InvalidInputError(f"it declares the character set {label!r}, which cannot be read; save it as UTF-8")
    return _iso_2022_jp(page) if codec == "iso2022-jp" else page.decode(codec, _ERRORS)


def _guess(page: bytes) -> str:
    try:  # may be UTF-8 with control characters, which `file_facts` does not accept as text
        page.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            "it declares no character set but UTF-8, and is not valid UTF-8; save it as UTF-8"
        ) from error
    return "utf-8"


def declared_charset(page: bytes) -> str | None:
    """Return the first known encoding that an HTML page declares.

    Args:
        page: The bytes.

    Returns:
        The label in lower case; None if none is declared. Comments and scripts are skipped.
    """
    parser = _Declaration()
    text = page.decode("latin-1")
    try:
        for start in range(0, len(text), _AT_ONCE):
            parser.feed(text[start : start + _AT_ONCE])
            if parser.label is not None:
                break
    except AssertionError:  # markup that html.parser rejects; later declarations are ignored
        pass
    return parser.label


def codec_of(label: str) -> str | None:
    """Return Python's codec for a label of the Encoding standard.

    Args:
        label: A label such as ``"latin1"``, in any case.

    Returns:
        The codec; None for an unknown label, and an empty string for an encoding that cannot be decoded.
    """
    return _codecs().get(label.strip().lower())


@cache
def _codecs() -> dict[str, str]:
    return {label: codec for codec, labels in _LABELS.items() for label in labels.split()}


class _Declaration(HTMLParser):
    label: str | None = None

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            return
        given = {name: value or "" for name, value in reversed(attrs)}
        if "charset" in given:
            self._declare(given["charset"])
        elif given.get("http-equiv", "").strip().lower() == "content-type":
            found = _CHARSET.search(given.get("content", ""))
            self._declare("".join(part or "" for part in found.groups()) if found else "")

    @override
    def handle_pi(self, data: str) -> None:
        found = _XML_ENCODING.search(data) if data.startswith("xml") else None
        self._declare(found[1] if found else "")

    def _declare(self, label: str) -> None:
        if self.label is None and codec_of(label) is not None:
            self.label = label.strip().lower()


def _as_browsers(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that browsers accept and Python's codecs do not.

    Returns:
        The characters, and the index of the next byte.

    Raises:
        UnicodeError: If the error is not about decoding.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    start, page = error.start, error.object
    if error.encoding == "gb18030" and page[start] == 0x80:
        return "€", start + 1
    if error.encoding == "charmap" and 0x80 <= page[start] < 0xA0:
        return chr(page[start]), start + 1
    if error.encoding == "euc_jp":  # the rows added by NEC and IBM, in the same order as in Shift_JIS
        row, cell = page[start] - 0xA1, page[start + 1] - 0xA1 if start + 1 < len(page) else -1
        if 0 <= row < 94 and 0 <= cell < 94:
            lead, trail = divmod(row * 94 + cell, 188)
            pair = bytes([lead + (0x81 if lead < 31 else 0xC1), trail + (0x40 if trail < 63 else 0x41)])
            return pair.decode("cp932", "replace"), start + 2
    return "\ufffd", error.end


codecs.register_error(_ERRORS, _as_browsers)


def _iso_2022_jp(page: bytes) -> str:
    """Decode ISO-2022-JP with the extensions of browsers: the rows of NEC and IBM, and half-width katakana."""
    first, *rest = re.split(rb"\x1b(\([BIJ]|\$[@B])", page)
    text = first.decode("ascii", "replace")
    for mode, part in zip(rest[::2], rest[1::2], strict=True):
        if mode in {b"(B", b"(J"}:
            text += part.decode("ascii", "replace")
        else:
            shifted = bytes(byte | 0x80 if byte > 0x20 else byte for byte in part)
            text += shifted.decode("cp932" if mode == b"(I" else "euc-jp", _ERRORS)
    return text
