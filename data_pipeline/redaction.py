"""Secrets of settings and URLs, which nothing that is printed or kept for others shows.

Secrets are the values in ``storage_options`` whose names say so (key, secret, token, password, sas,
credential, signature, authorization, ...), whatever their depth, all headers of requests but those
that every request has, and in URLs the password and the parameters with such names, as of signed
URLs. Settings that were read are remembered, so that their secrets are found in any text, such as
the message of a server.

Two forms serve two purposes: ``redacted`` values show that there was a secret, and
``without_secrets`` they compare equal, whatever the secret is and wherever else it comes from.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

MARK = "***"
_FREE = "storage_options"  # settings with any names, of a library
_HEADERS = "headers"
_PUBLIC_HEADERS = re.compile("accept|cache-control|content-|host|range|referer|user-agent")
_LONG_NAMES = re.compile(
    "secret|token|passw|passphrase|credential|signature(?!_?version)|authorization|cookie|bearer"
    "|api_?key|access_?key|private_?key|account_?key|connection_?string"
)
_SHORT_NAMES = {"key", "keys", "sas", "sig", "auth", "pwd", "pass", "pw", "pin", "code"}
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Ways to log in, of gcsfs, and what is no secret in any library.
_PUBLIC = {"", "anon", "cloud", "cache", "google_default", "browser", "true", "false", "none"}
_HEADER = re.compile(r"\s*(?:bearer|basic|token)\s+(\S+)\s*", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s\"'<>]*")
_LOGIN = re.compile(r"(?<=://)([^/?#\s]*)@")
_PARAMETER = re.compile(r"([?&;#])([^=&;#?\s]+)=([^&;#\s]*)")
_SETTING = re.compile(  # looks ahead: a value may be a setting itself
    r"([\w-]+)['\"]?\s*[:=]\s*(?=('[^']*'|\"[^\"]*\"|[^,{}\[\s][^,}\n]*))"
)
_LEAST_LENGTH, _LONG_LENGTH = 5, 12  # of secrets: short ones are parts of words

_remembered: set[str] = set()


def is_secret_name(name: object) -> bool:
    """Whether the value of a setting of this name is a secret, such as of ``AWSAccessKeyId``."""
    parts = {part.lower() for part in _PARTS.findall(str(name))}
    return bool(_LONG_NAMES.search(str(name).lower().replace("-", "_")) or parts & _SHORT_NAMES)


def redacted(value: Any) -> Any:  # noqa: ANN401
    """The plain value, with ``***`` in place of secrets; without any it is the same."""
    return _transformed(value, MARK, "")


def without_secrets(value: Any) -> Any:  # noqa: ANN401
    """The plain value without secrets and their names, to be compared with another."""
    return _transformed(value, None, "")


def has_secrets(value: Any) -> bool:  # noqa: ANN401
    """Whether a plain value has secrets."""
    return redacted(value) != value


def remember_secrets(value: Any) -> None:  # noqa: ANN401
    """Find the secrets of a plain value from now on in any text, see ``redact``."""
    for secret in _secrets(value, ""):
        header = _HEADER.fullmatch(secret)
        for form in (secret, quote(secret, safe=""), unquote(secret), header[1] if header else ""):
            if len(form) >= _LEAST_LENGTH and MARK not in form:
                _remembered.add(form)


def remember_secrets_of_text(text: str) -> None:
    """Find the secrets of words of a command or of YAML, which may be wrong, in any text."""
    for url in _URL.findall(text):
        remember_secrets(url)
    _, _, options = text.partition(_FREE)
    for name, value in _SETTING.findall(options):
        remember_secrets({_FREE: {name: value.strip(" '\"")}})


def redact(text: str) -> str:
    """The text, with ``***`` in place of secrets of URLs and of settings that were read."""
    if "://" in text:
        text = _URL.sub(lambda match: _redact_url(match[0], MARK), text)
    for secret in sorted(_remembered, key=len, reverse=True):
        if secret in text:
            bounds = ("", "") if len(secret) >= _LONG_LENGTH else (r"(?<!\w)", r"(?!\w)")
            text = re.sub(bounds[0] + re.escape(secret) + bounds[1], MARK, text)
    return text


def redact_texts(value: Any) -> Any:  # noqa: ANN401
    """The plain value with all its texts as by ``redact``."""
    if isinstance(value, Mapping):
        return {name: redact_texts(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_texts(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def _transformed(value: Any, mark: str | None, within: str) -> Any:  # noqa: ANN401
    """Replace secrets by the mark, or leave them out; ``within`` as of ``_within``."""
    if isinstance(value, Mapping):
        result = {}
        for name, item in value.items():
            if within and _is_secret(name, item, within):
                if mark is not None:
                    result[name] = mark
            else:
                result[name] = _transformed(item, mark, _within(within, name))
        return result
    if isinstance(value, list | tuple):
        return type(value)(_transformed(item, mark, within) for item in value)
    if isinstance(value, str) and "://" in value:
        return _redact_url(value, mark)
    return value


def _within(within: str, name: object) -> str:
    """Where the value of a setting is: in options of a library, in its headers, or empty."""
    if within:
        return _HEADERS if str(name).lower().endswith(_HEADERS) else within
    return _FREE if name == _FREE else ""


def _is_secret(name: object, value: object, within: str) -> bool:
    """Whether an option of a library is a secret, by its name or because it logs in."""
    if isinstance(value, str) and (value == MARK or _HEADER.fullmatch(value)):
        return True
    is_public = value is None or str(value).lower() in _PUBLIC or value in ({}, [])
    if within == _HEADERS and not _PUBLIC_HEADERS.match(str(name).lower()):
        return not is_public
    return is_secret_name(name) and not is_public


def _redact_url(url: str, mark: str | None) -> str:
    """A URL, or several in a chain, without password and secret parameters."""

    def login(match: re.Match[str]) -> str:
        user, colon, _ = match[1].partition(":")
        is_web = url[: match.start()].lower().endswith(("http://", "https://"))
        if not (colon or is_web):  # such as a container of Azure
            return match[0]
        if mark is None:
            return ""
        return f"{user}:{mark}@" if colon else f"{mark}@"

    def parameter(match: re.Match[str]) -> str:
        if not (is_secret_name(unquote(match[2])) and match[3]):
            return match[0]
        return match[1] if mark is None else f"{match[1]}{match[2]}={mark}"

    return _PARAMETER.sub(parameter, _LOGIN.sub(login, url))


def _secrets(value: Any, within: str) -> set[str]:  # noqa: ANN401
    """The secrets of a plain value as texts."""
    if isinstance(value, Mapping):
        found = set()
        for name, item in value.items():
            if within and _is_secret(name, item, within):
                found |= _leaves(item)
            else:
                found |= _secrets(item, _within(within, name))
        return found
    if isinstance(value, list | tuple):
        return {secret for item in value for secret in _secrets(item, within)}
    if not isinstance(value, str):
        return set()
    found = set[str]()
    if "://" in value:
        logins = (match[1].partition(":") for match in _LOGIN.finditer(value))
        found |= {password for _, colon, password in logins if colon}
        found |= {m[3] for m in _PARAMETER.finditer(value) if is_secret_name(unquote(m[2]))}
    return found


def _leaves(value: Any) -> set[str]:  # noqa: ANN401
    """All values of a nested one, as texts."""
    if isinstance(value, Mapping):
        return {leaf for item in value.values() for leaf in _leaves(item)}
    if isinstance(value, list | tuple):
        return {leaf for item in value for leaf in _leaves(item)}
    return {str(value)}
