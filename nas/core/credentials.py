"""Masking of passwords in URLs, commands, settings and error messages.

Of a URL only what is known to be harmless is kept; everything else becomes ``***``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

MASK: Final = "***"
_DATABASES: Final = (
    r"(?:sqlite|journal|postgre(?:s|sql)?|pgsql|psql|mysql|mariadb|grpc|redis|mongodb|oracle|mssql|cockroachdb)"
    r"(?:\+\w+)?"
)
# Where a URL begins: a scheme and slashes; a database's with a colon or slashes alone; slashes without a scheme.
_START: Final = re.compile(
    rf"(?<![\w.+/-])(?P<head>{_DATABASES}(?::/*|//+)(?=\S)|[A-Za-z][\w.+-]+://+|://+)", re.IGNORECASE
)
_FILE: Final = re.compile(r"(?:sqlite(?:\+\w+)?|journal|file):///+", re.IGNORECASE)
_WEB: Final = re.compile(r"(?:https?|file)://", re.IGNORECASE)
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?:\d{1,5}|PORT))?"
_PLACE: Final = re.compile(rf"(?P<place>(?:{_HOST}(?:,{_HOST})*)?(?:/[\w.~+-]*)?)(?:\?(?P<query>.*))?", re.DOTALL)
_PAGE: Final = re.compile(r"(?P<place>[^?@\s]*)(?:\?(?P<query>.*))?", re.DOTALL)
_PLAIN: Final = re.compile(r"(?!.*//)[\w./~+-]*")  # a file, or null
_PLACEHOLDER: Final = "USER:PASSWORD"  # in messages that show the form of a URL
_HARMLESS_VALUE: Final = re.compile(r"[\w./:,+~-]*")
_HARMLESS: Final = (
    "application_name", "cache", "channel_binding", "charset", "check_same_thread", "client_encoding", "collation",
    "connect_timeout", "connection_timeout", "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "load_balance_hosts", "mode", "nolock", "immutable", "port",
    "read_timeout", "ssl_ca", "sslmode", "sslrootcert", "ssl_verify_cert", "ssl_verify_identity",
    "target_session_attrs", "tcp_user_timeout", "timeout", "unix_socket", "uri", "write_timeout",
)  # fmt: skip
_NUMERIC: Final = re.compile(r".*timeout|keepalives.*|port", re.IGNORECASE)
_SECRET_WORD: Final = r"(?:password|passwd|passphrase|pwd|secret)"
_NAMED: Final = re.compile(rf"user(?:name)?|passfile|sslkey|\w*{_SECRET_WORD}\w*", re.IGNORECASE)
_PAIR: Final = re.compile(
    rf"(?<![\w-])(?P<name>(?=[\w-]*{_SECRET_WORD})[\w-]++\s?=\s?)(?:\"[^\"]*\"|'[^']*'|[^\s&;]*[^\s&;,.:)\]}}'\"])",
    re.IGNORECASE,
)
_STORAGE: Final = re.compile(r"(?:.*\.)?storage")
_QUOTE_BEFORE: Final = re.compile(r"(['\"])[\w.+~\[{=-]*$")
_DELIMITERS: Final = re.compile(r"[:/@?&=;,#\s\[\]{}'\"]+")


def mask_url(url: str) -> str:
    """A storage ``url`` with all masked that is not known to be harmless.

    Kept: the scheme, hosts, ports, the database or file, and connection options such as ``sslmode``.
    """
    found = _START.match(url)
    if found is None:
        return url if _PLAIN.fullmatch(url) else MASK
    return _masked(found["head"], url[found.end() :])


def mask_credentials(text: str) -> str:
    """``text`` with the credentials of URLs and ``password=...`` in it masked.

    Where a URL is quoted it ends with the quote, otherwise with the word, or a later ``@`` of the line.
    """
    parts: list[str] = []
    position = 0
    while found := _START.search(text, position):
        end = _end(text, found)
        parts += [text[position : found.start()], _masked(found["head"], text[found.end() : end])]
        position = end
    parts.append(text[position:])
    return _PAIR.sub(lambda pair: pair["name"] + MASK, "".join(parts))


def mask_words(words: Sequence[str]) -> list[str]:
    """The words of a command, masked.

    The value of a setting ``storage`` is masked as a URL, whatever it looks like.
    """
    return [_masked_word(word) for word in words]


def masked_command(words: Sequence[str]) -> str:
    """The command of ``words``, masked and quoted for a shell."""
    return shlex.join(mask_words(words))


def mask_settings(value: Any, name: str = "") -> Any:
    """Plain data with its texts masked, those of a key ``storage`` as URLs."""
    if isinstance(value, Mapping):
        return {key: mask_settings(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_settings(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if _NAMED.fullmatch(name) and value:
        return MASK
    return mask_url(value) if _STORAGE.fullmatch(name) else mask_credentials(value)


def mask_reason(text: str, url: str) -> str:
    """What a driver says of ``url``, without the parts of it that are masked."""
    kept = set(_DELIMITERS.split(mask_url(url)))
    whole = url.partition("://")[2].rpartition("@")[0]
    hidden = {whole, whole.partition(":")[2], *_DELIMITERS.split(url)}
    hidden |= {unquote_plus(part) for part in hidden}
    for part in sorted(hidden - kept, key=len, reverse=True):
        if len(part) > 1:
            text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", MASK, text)
    return mask_credentials(text)


def _masked(head: str, rest: str) -> str:
    """URL of ``head`` (the scheme with its slashes) and ``rest``, masked."""
    is_file = _FILE.fullmatch(head) is not None
    if is_file and not re.search(r":.*@", rest, re.DOTALL):
        path, separator, query = rest.partition("?")
        return head + path + (f"?{_masked_query(query)}" if separator else "")
    secret, at, place = rest.rpartition("@")
    found = (_PAGE if _WEB.match(head) else _PLACE).fullmatch(place)
    if found is None or re.search(r"\?.*=", secret, re.DOTALL):  # the @ may be within a password of the query
        return head + MASK
    user = secret if secret == _PLACEHOLDER else MASK
    query = "" if found["query"] is None else f"?{_masked_query(found['query'])}"
    return head + (f"{user}@" if at else "") + found["place"] + query


def _masked_query(query: str) -> str:
    """``query`` with unknown keys and all other values masked.

    An unknown key may be what follows an ampersand within a password.
    """
    shown: list[str] = []
    for pair in re.split("[&;]", query):
        key, separator, value = pair.partition("=")
        allowed = r"[\d.]*" if _NUMERIC.fullmatch(key) else _HARMLESS_VALUE
        if key.lower() in _HARMLESS and re.fullmatch(allowed, value):
            shown.append(pair)
        elif separator and _NAMED.fullmatch(key):
            shown.append(f"{key}={MASK}")
        elif shown[-1:] != [MASK]:
            shown.append(MASK)
    return "&".join(shown)


def _end(text: str, found: re.Match[str]) -> int:
    """Where the URL that ``found`` begins ends in ``text``."""
    start = found.end()
    quote = _QUOTE_BEFORE.search(text[: found.start()])
    if quote:
        close = re.compile(rf"(?<!\\){quote[1]}(?=[\s:,.;)\]}}]|$)").search(text, start)
        if close:
            return close.start()
    newline, following = text.find("\n", start), _START.search(text, start)
    limit = min(len(text) if newline < 0 else newline, following.start() if following else len(text))
    blank = re.compile(r"\s|$").search(text, start)
    word_end = min(blank.start() if blank else limit, limit)
    if not _FILE.fullmatch(found["head"]) and not _WEB.match(found["head"]):
        later = [at.end() for at in re.compile(r"(?<!['\"])@").finditer(text, word_end, limit)]
        if later:  # a blank within the password
            rest = re.compile(r"\s|$").search(text, later[-1], limit)
            word_end = rest.start() if rest else limit
    return start + len(text[start:word_end].rstrip(".,:;)]}>'\""))


def _masked_word(word: str) -> str:
    name, separator, value = word.partition("=")
    if separator and _STORAGE.fullmatch(name.lstrip("+~")):
        quote = value[0] if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] else ""
        inner = value[1:-1] if quote else value
        return f"{name}={quote}{mask_url(inner)}{quote}"
    return mask_credentials(word)
