"""Keys: where there are any, all but the state of health needs one."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask, current_app, request
from werkzeug.exceptions import Unauthorized

from service.http.middleware.cors import is_preflight
from service.http.operations import get_operation
from service.settings import PREFIX, Settings

# What a bearer token may be made of, RFC 6750.
_KEY_PATTERN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
# Werkzeug would write it without the quotes that RFC 9110 demands.
_CHALLENGE = 'Bearer realm="gradcheckd"'


class AuthenticationError(Unauthorized):
    """No key, or none that is known.

    Parameters
    ----------
    why
        What is the matter, after "This service".
    challenge
        The header that says how to mend it.
    """

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(f"This service {detail}: send `Authorization: Bearer KEY` with a key that you got for it.")
        self._challenge = challenge

    def get_headers(self, environ: Any = None, scope: Any = None) -> list[tuple[str, str]]:
        """Say which scheme it takes."""
        return [*super().get_headers(environ, scope), ("WWW-Authenticate", self._challenge)]


def register(app: Flask, settings: Settings) -> None:
    """Ask every request for a key, if there are keys."""
    digests = [_hash_key(key) for key in load_keys(settings)]
    if digests:
        app.before_request(partial(_require_key, digests))


def load_keys(settings: Settings) -> list[str]:
    """Keys of the setting and of the file.

    Raises
    ------
    ValueError
        A key that no request can bear, or a file without any. Neither shows a key.
    """
    keys = _validate_keys(settings.keys.get_secret_value().split(","), f"{PREFIX}KEYS")
    if not settings.keys_file:
        return keys
    lines = Path(settings.keys_file).read_text(encoding="utf-8").splitlines()
    in_file = _validate_keys((line.partition("#")[0] for line in lines), f"{PREFIX}KEYS_FILE {settings.keys_file!r}")
    if not in_file:
        # An empty file is a mistake of deployment; it must not open what was meant to be closed.
        raise ValueError(f"{PREFIX}KEYS_FILE {settings.keys_file!r} holds no key: write one in each line, or unset it.")
    return [*keys, *in_file]


def _validate_keys(texts: Iterable[str], source: str) -> list[str]:
    keys = [text.strip() for text in texts if text.strip()]
    for number, key in enumerate(keys, 1):
        if not _KEY_PATTERN.fullmatch(key):
            raise ValueError(f"Key {number} of {source} is not made of letters, digits and -._~+/ (RFC 6750) alone.")
    return keys


def _hash_key(key: str) -> bytes:
    # Of one length, so that comparing tells nothing of that of a key.
    return hashlib.sha256(key.encode()).digest()


def _require_key(digests: list[bytes]) -> None:
    if _is_open_route():
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise AuthenticationError("needs a key, and the request bears none", _CHALLENGE)
    mine = _hash_key(given.strip())
    # Against each, without stopping at the first: the time tells nothing of which, or of how many.
    if not sum(hmac.compare_digest(mine, digest) for digest in digests):
        raise AuthenticationError("does not know the key of the request", f'{_CHALLENGE}, error="invalid_token"')


def _is_open_route() -> bool:
    if is_preflight(request):
        return True
    operation = get_operation(current_app.view_functions[request.endpoint]) if request.endpoint else None
    return operation is not None and operation.is_open
