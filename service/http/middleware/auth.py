"""API keys: if any are set, every route except health requires one."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask, current_app, g, request
from werkzeug.exceptions import Unauthorized

from service.http.middleware.cors import is_preflight
from service.http.operations import get_operation
from service.settings import PREFIX, Settings

# The characters of a bearer token, RFC 6750, section 2.1.
_KEY_PATTERN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
# Werkzeug would leave out the quotes that RFC 9110, section 11.5, demands.
_CHALLENGE = 'Bearer realm="gradcheckd"'


class AuthenticationError(Unauthorized):
    """A missing or invalid API key.

    Parameters
    ----------
    detail
        Predicate of the sentence that begins with "This service".
    challenge
        Value of the header WWW-Authenticate.
    """

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(f"This service {detail}. Send `Authorization: Bearer KEY` with a valid key.")
        self._challenge = challenge

    def get_headers(self, environ: Any = None, scope: Any = None) -> list[tuple[str, str]]:
        """Return the headers of the error, with the accepted scheme."""
        return [*super().get_headers(environ, scope), ("WWW-Authenticate", self._challenge)]


def register(app: Flask, settings: Settings) -> None:
    """Require a key of every request, if the settings have keys."""
    digests = [_hash_key(key) for key in load_keys(settings)]
    if digests:
        app.before_request(partial(_require_key, digests))


def load_keys(settings: Settings) -> list[str]:
    """Load the keys of the setting and of the file.

    Raises
    ------
    ValueError
        If no request can bear a key, or the file has none. The message shows no key.
    """
    keys = _validate_keys(settings.keys.get_secret_value().split(","), f"{PREFIX}KEYS")
    if not settings.keys_file:
        return keys
    lines = Path(settings.keys_file).read_text(encoding="utf-8").splitlines()
    in_file = _validate_keys((line.partition("#")[0] for line in lines), f"{PREFIX}KEYS_FILE {settings.keys_file!r}")
    if not in_file:
        # An empty file is a slip of deployment; it must not open a service that was meant to be closed.
        raise ValueError(f"{PREFIX}KEYS_FILE {settings.keys_file!r} holds no key: write one in each line, or unset it.")
    return [*keys, *in_file]


def _validate_keys(texts: Iterable[str], source: str) -> list[str]:
    keys = [text.strip() for text in texts if text.strip()]
    for number, key in enumerate(keys, 1):
        if not _KEY_PATTERN.fullmatch(key):
            raise ValueError(f"Key {number} of {source} is not made of letters, digits and -._~+/ (RFC 6750) alone.")
    return keys


def _hash_key(key: str) -> bytes:
    # Digests have one length, so that the comparison reveals nothing of the length of a key.
    return hashlib.sha256(key.encode()).digest()


def _require_key(digests: list[bytes]) -> None:
    if _is_open_route():
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise AuthenticationError("needs a key, and the request bears none", _CHALLENGE)
    key_digest = _hash_key(key.strip())
    # The sum compares with every digest, so that the time reveals neither the matching key nor the number of keys.
    if not sum(hmac.compare_digest(key_digest, digest) for digest in digests):
        raise AuthenticationError("does not know the key of the request", f'{_CHALLENGE}, error="invalid_token"')
    g.key_digest = key_digest


def get_caller() -> str:
    """Return a digest of the key of this request; empty in a service without keys."""
    digest: bytes | None = g.get("key_digest")
    return "" if digest is None else digest.hex()


def _is_open_route() -> bool:
    if is_preflight(request):
        return True
    operation = get_operation(current_app.view_functions[request.endpoint]) if request.endpoint else None
    return operation is not None and operation.is_open
