"""The gateway's own secret: one text, from which the keys' pepper and the encryption of servers' tokens are derived.

It lives apart from the database, so that a copy of the database alone gives away neither a key nor a token. Both are
derived with HKDF (RFC 5869), so that neither tells anything of the other.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ilaas.core.errors import ConfigError

SECRET_FILE = "secret.key"
SECRET_VARIABLE = "ILAAS_SECRET"
_MIN_CHARS = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Secret:
    """What is derived from the gateway's secret. Nothing of it is ever shown."""

    def __init__(self, material: str) -> None:
        """`material` is at least 32 characters that nobody can guess. Raises ConfigError when it is shorter."""
        if len(material) < _MIN_CHARS:
            raise ConfigError(
                f"The gateway's secret has {len(material)} characters, and needs {_MIN_CHARS} or more. "
                "Make one with: openssl rand -base64 32"
            )
        self.pepper = _derive(material, b"ilaas: pepper of key digests, v1")
        """32 bytes, for `core.keys.digest`."""
        self._services = _derive(material, b"ilaas: keys of the gateway's own services, v1")
        self._fernet = Fernet(base64.urlsafe_b64encode(_derive(material, b"ilaas: encryption of server tokens, v1")))

    def __repr__(self) -> str:
        return "Secret(…)"

    def derived(self, label: str) -> bytes:
        """32 bytes of this secret and a label: what the gateway's own services need and nobody stores."""
        return hashlib.blake2b(label.encode(), key=self._services, digest_size=32).digest()

    def encrypt(self, text: str) -> str:
        """The text, encrypted and signed, as ASCII."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decrypt(self, encrypted: str) -> str:
        """The text behind it. Raises ConfigError when it was encrypted with another secret."""
        try:
            return self._fernet.decrypt(encrypted.encode("ascii")).decode()
        except (InvalidToken, UnicodeEncodeError):
            raise ConfigError(
                "A stored token was encrypted with another secret than this gateway's. Give it the secret the database "
                f"was made with ({SECRET_FILE} in the state folder, or {SECRET_VARIABLE})."
            ) from None


def load_secret(state_dir: Path, environ: Mapping[str, str] = os.environ) -> Secret:
    """The secret of the environment, else of the state folder's file, which is made on first use.

    Raises ConfigError when others than its owner may read the file, or when it is not a secret.
    """
    given = environ.get(SECRET_VARIABLE, "").strip()
    if given:
        return Secret(given)
    path = state_dir / SECRET_FILE
    try:
        if not path.exists():
            _make(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            raise ConfigError(f"{path}: others may read the gateway's secret (mode {mode:o}). Run: chmod 600 {path}")
        material = path.read_text("ascii").strip()
    except OSError as error:
        raise ConfigError(f"{path}: the gateway's secret can't be read or made: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not a gateway's secret. Put the right one in its place.") from None
    return Secret(material)


def _derive(material: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(material.encode())


def _make(path: Path) -> None:
    """Whole or not at all, and never over another's: processes that start together end up with the same secret."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink()
