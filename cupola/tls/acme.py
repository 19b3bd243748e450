"""ACME (RFC 8555): certificates of a public, or a private, authority. http-01 for single names, dns-01 for wildcards.

AcmeProblem     the server refused something, or a challenge failed; the text is the server's
"""

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from joserfc import jws
from joserfc.jwk import ECKey

from cupola.config import Settings
from cupola.secrets.generated import create_private, write_private
from cupola.tls.authority import new_key, private_pem
from cupola.tls.places import Places

__all__ = ["AcmeProblem", "obtain"]

_TIMEOUT = aiohttp.ClientTimeout(total=30)
_ATTEMPTS = 10
"""Times that a request is signed again because the server did not like its nonce (RFC 8555, 6.5)."""
_POLLS = 60
_POLL_SECONDS = (0.25, 5.0)
"""First and longest pause between two questions for a state; each is half as long again as the one before."""
_COMMAND_SECONDS = 120.0
_HEADER = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)


class AcmeProblem(Exception):
    """No certificate; the text says why."""


async def obtain(settings: Settings, places: Places, names: Sequence[str]) -> bytes:
    """Key and chain (PEM) for `names`. Raises AcmeProblem, aiohttp.ClientError, TimeoutError or OSError."""
    trust = ssl.create_default_context()
    if settings.tls.acme_ca_file:
        trust.load_verify_locations(settings.tls.acme_ca_file)
    connector = aiohttp.TCPConnector(ssl=trust)
    agent = {"User-Agent": "cupola"}
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, headers=agent, trust_env=True) as session:
        account = await _Account.open(session, settings, places)
        return await _order(account, _Answers(settings, places), names)


class _Account:
    """Signs requests. `kid` is the account's URL once it is known."""

    def __init__(self, session: aiohttp.ClientSession, directory: dict[str, Any], key: ECKey) -> None:
        self.directory = directory
        self._session = session
        self._key = key
        self._kid = ""
        self._nonce = ""

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, settings: Settings, places: Places) -> "_Account":
        """The account whose key is kept, registered if it is not."""
        pem = await asyncio.to_thread(create_private, places.acme / "account.key", private_pem(new_key()))
        async with session.get(settings.tls.acme_directory) as answer:
            if answer.status != 200:
                raise AcmeProblem(f"{settings.tls.acme_directory} answers with status {answer.status}")
            directory = await answer.json(content_type=None)
        account = cls(session, directory, ECKey.import_key(pem))
        wanted: dict[str, Any] = {"termsOfServiceAgreed": True}
        if settings.tls.acme_email:
            wanted["contact"] = [f"mailto:{settings.tls.acme_email}"]
        _, headers = await account.post(directory["newAccount"], wanted)
        account._kid = headers["Location"]
        return account

    def proof(self, token: str) -> str:
        """The key authorization of a challenge (section 8.1)."""
        return f"{token}.{self._key.thumbprint()}"

    async def post(self, url: str, payload: Any = None) -> tuple[Any, Any]:
        """JSON (or text) and headers of a signed request; without a payload it is a read (section 6.3)."""
        for attempt in range(1, _ATTEMPTS + 1):
            body = self._signed(url, await self._fresh_nonce(), payload)
            headers = {"Content-Type": "application/jose+json"}
            async with self._session.post(url, data=body, headers=headers) as answer:
                self._nonce = answer.headers.get("Replay-Nonce", "")
                text = await answer.text()
                if answer.status < 400:
                    is_json = "json" in answer.headers.get("Content-Type", "")
                    return (json.loads(text) if is_json and text else text), answer.headers
                problem = _problem(text)
            if not problem.get("type", "").endswith(":badNonce") or attempt == _ATTEMPTS:
                raise AcmeProblem(_said(problem, answer.status))
        raise AssertionError("unreachable")

    async def _fresh_nonce(self) -> str:
        nonce, self._nonce = self._nonce, ""
        if not nonce:
            async with self._session.head(self.directory["newNonce"]) as answer:
                nonce = answer.headers["Replay-Nonce"]
        return nonce

    def _signed(self, url: str, nonce: str, payload: Any) -> bytes:
        whose = {"kid": self._kid} if self._kid else {"jwk": self._key.as_dict(private=False)}
        header = {"alg": "ES256", "nonce": nonce, "url": url, **whose}
        content = b"" if payload is None else msgspec.json.encode(payload)
        signed = jws.serialize_json({"protected": header}, content, self._key, registry=_HEADER)
        return msgspec.json.encode(signed)

    async def until(self, url: str, states: Sequence[str]) -> dict[str, Any]:
        """The object at `url` once it is in one of `states`. Raises AcmeProblem when it becomes invalid, or never."""
        pause, longest = _POLL_SECONDS
        for _ in range(_POLLS):
            found, _headers = await self.post(url)
            state = found.get("status")
            if state in states:
                return dict(found)
            if state in {"invalid", "expired", "revoked", "deactivated"}:
                raise AcmeProblem(_reason(found))
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)
        raise AcmeProblem(f"{url} does not become {' or '.join(states)}")


async def _order(account: _Account, answers: "_Answers", names: Sequence[str]) -> bytes:
    wanted = {"identifiers": [{"type": "dns", "value": name} for name in names]}
    order, headers = await account.post(account.directory["newOrder"], wanted)
    place = headers["Location"]
    try:
        pending = [found for url in order["authorizations"] if (found := await _pending(account, url))]
        chosen = [(url, *answers.choose(account, found)) for url, found in pending]
        for _url, name, challenge, proof in chosen:
            await answers.put(name, challenge, proof)
        await answers.settle()
        for _url, _name, challenge, _proof in chosen:
            await account.post(challenge["url"], {})
        for url, *_ in chosen:
            await account.until(url, ["valid"])
    finally:
        await answers.remove()
    key = new_key()
    await account.post(order["finalize"], {"csr": _base64(_request(key, names))})
    done = await account.until(place, ["valid"])
    chain, _ = await account.post(done["certificate"])
    return private_pem(key) + str(chain).encode()


async def _pending(account: _Account, url: str) -> tuple[str, dict[str, Any]] | None:
    found, _ = await account.post(url)
    return None if found["status"] == "valid" else (url, found)


class _Answers:
    """The answers to challenges: files that the controller serves on port 80, or records that a program sets."""

    def __init__(self, settings: Settings, places: Places) -> None:
        self._kind = "dns-01" if settings.tls.acme_dns_command else "http-01"
        self._settings = settings.tls
        self._places = places
        self._files: list[Path] = []
        self._records: list[tuple[str, str]] = []

    def choose(self, account: _Account, authorization: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
        """Name, challenge and what proves it."""
        name = authorization["identifier"]["value"]
        for challenge in authorization["challenges"]:
            if challenge["type"] == self._kind:
                return name, challenge, account.proof(challenge["token"])
        raise AcmeProblem(f"the server offers no {self._kind} for {name}")

    async def put(self, name: str, challenge: dict[str, Any], proof: str) -> None:
        if self._kind == "dns-01":
            record = f"_acme-challenge.{name}", _base64(hashlib.sha256(proof.encode()).digest())
            self._records.append(record)
            await self._command("add", *record)
            return
        token = challenge["token"]
        if not token.replace("-", "").replace("_", "").isalnum():
            raise AcmeProblem(f"the server's token {token!r} is not in the form of RFC 8555")
        file = self._places.challenges / token
        self._files.append(file)
        await asyncio.to_thread(write_private, file, proof.encode())

    async def settle(self) -> None:
        """Wait until what was put can be seen."""
        if self._records:
            await asyncio.sleep(self._settings.acme_wait_seconds)

    async def remove(self) -> None:
        """Take everything away again."""
        for file in self._files:
            await asyncio.to_thread(file.unlink, missing_ok=True)
        for record in self._records:
            await self._command("remove", *record)

    async def _command(self, *words: str) -> None:
        program = self._settings.acme_dns_command
        process = await asyncio.create_subprocess_exec(
            program, *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _COMMAND_SECONDS)
        except TimeoutError:
            process.kill()
            raise AcmeProblem(f"{program} {words[0]} did not end within {_COMMAND_SECONDS:.0f} s") from None
        if process.returncode:
            text = said.decode(errors="replace").strip()[-500:]
            raise AcmeProblem(f"{program} {words[0]} ended with status {process.returncode}: {text}")


def _request(key: Any, names: Sequence[str]) -> bytes:
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _problem(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {"detail": text[:300]}
    return found if isinstance(found, dict) else {"detail": text[:300]}


def _said(problem: dict[str, Any], status: int) -> str:
    details = [problem.get("detail") or f"status {status}"]
    details += [str(one.get("detail")) for one in problem.get("subproblems") or [] if isinstance(one, dict)]
    return "; ".join(details)


def _reason(found: dict[str, Any]) -> str:
    name = found.get("identifier", {}).get("value", "the order")
    errors = [found.get("error"), *(one.get("error") for one in found.get("challenges") or [])]
    details = [_said(error, 0) for error in errors if isinstance(error, dict)]
    return f"{name} is {found.get('status')}: {'; '.join(details) or 'no reason given'}"
