"""htpasswd files (Staticfile.auth): {PLAIN}, {SHA}, {SSHA}, $apr1$, and what the system's crypt knows (also bcrypt)."""

import base64
import ctypes
import hashlib
import hmac
import threading

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


_one_at_a_time = threading.Lock()
"""crypt() answers in a buffer of its own."""


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """Hashes by user, and a list of problems."""
    users: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, rest = line.strip().partition(":")
        hashed = rest.split(":")[0]
        if not colon or not user or not hashed:
            problems.append(f"line {number} is not `user:hash`; make it with htpasswd")
        users[user] = hashed
    return users, problems


def verify(hashed: str, password: str) -> bool:
    """Whether the password is the one of the hash."""
    secret = password.encode("utf-8", "surrogateescape")
    if hashed.startswith("{PLAIN}"):
        made = "{PLAIN}" + password
    elif hashed.startswith("{SHA}"):
        made = "{SHA}" + base64.b64encode(hashlib.sha1(secret, usedforsecurity=False).digest()).decode()
    elif hashed.startswith("{SSHA}"):
        try:
            raw = base64.b64decode(hashed[6:])
        except ValueError:
            return False
        digest = hashlib.sha1(secret + raw[20:], usedforsecurity=False).digest()
        return hmac.compare_digest(digest, raw[:20])
    elif hashed.startswith("$apr1$"):
        made = apr1(secret, hashed.split("$")[2])
    else:
        made = _crypt(secret, hashed)
    return hmac.compare_digest(made.encode("utf-8", "surrogateescape"), hashed.encode("utf-8", "surrogateescape"))


def _crypt(secret: bytes, hashed: str) -> str:
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError:
        return ""
    library.crypt.restype = ctypes.c_char_p
    with _one_at_a_time:
        made = library.crypt(ctypes.c_char_p(secret), ctypes.c_char_p(hashed.encode()))
    return made.decode("ascii", "replace") if made else ""


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def apr1(secret: bytes, salt_text: str) -> str:
    """Apache's variant of MD5-crypt."""
    salt = salt_text.encode()[:8]
    final = _md5(secret + salt + secret)
    text = secret + b"$apr1$" + salt
    text += (final * (len(secret) // 16 + 1))[: len(secret)]
    length = len(secret)
    while length:
        text += b"\0" if length & 1 else secret[:1]
        length >>= 1
    final = _md5(text)
    for i in range(1000):
        text = secret if i & 1 else final
        text += salt if i % 3 else b""
        text += secret if i % 7 else b""
        text += final if i & 1 else secret
        final = _md5(text)
    result = ""
    for a, b, c in ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)):
        value = final[a] << 16 | final[b] << 8 | final[c]
        for _ in range(4):
            result += _ALPHABET[value & 63]
            value >>= 6
    value = final[11]
    for _ in range(2):
        result += _ALPHABET[value & 63]
        value >>= 6
    return f"$apr1${salt.decode()}${result}"
