"""Keeps the platform's certificates: makes those that are missing, for other names, or past two thirds of their life.

Looks at what is there and does what is missing, so it is safe to run again and to be killed. Belongs to the controller:
the process that meets the internet never sees the authority's key.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

import aiohttp

from cupola.config import SYSTEM_NAMES, Settings
from cupola.secrets.generated import write_private
from cupola.tls.acme import AcmeProblem, obtain
from cupola.tls.authority import Authority
from cupola.tls.certificate import CertificateProblem, read_pair
from cupola.tls.places import Pair, Places, source

__all__ = ["Keeper", "acme_names", "apps_names", "authority_domains", "system_names"]

_LOOK_SECONDS = 60.0
_AGAIN = (60.0, 6 * 3600.0)
"""First and longest pause after ACME failed; each is twice the one before."""
_log = logging.getLogger(__name__)


def authority_domains(settings: Settings) -> list[str]:
    """Domains that our own authority is for: the apps domain is named if it is not below the system domain."""
    system, apps = settings.platform.system_domain, settings.apps_domain
    return [system] if apps == system or apps.endswith(f".{system}") else [system, apps]


def system_names(settings: Settings) -> list[str]:
    """Names of the system hosts that speak https."""
    return [f"{name}.{settings.platform.system_domain}" for name in SYSTEM_NAMES if name != "ssh"]


def apps_names(settings: Settings, shared: Sequence[str] = ()) -> list[str]:
    """Names of a certificate for apps: the apps domain, and those of `shared` that our authority may certify."""
    ours = authority_domains(settings)
    more = sorted(name for name in shared if any(name == one or name.endswith(f".{one}") for one in ours))
    domains = dict.fromkeys([settings.apps_domain, *more])
    return [name for domain in domains for name in (domain, f"*.{domain}")]


class Keeper:
    """One per controller. `shared_domains` gives the platform's shared domains."""

    def __init__(self, settings: Settings, shared_domains: Callable[[], Sequence[str]] = lambda: ()) -> None:
        self._settings = settings
        self._shared_domains = shared_domains
        self._places = Places(settings)
        self._source = source(settings)

    def ensure(self) -> None:
        """Make what is missing and can be made at once. Blocking. Raises OSError."""
        if self._source == "files" or not self._settings.platform.system_domain:
            return
        places = self._places
        authority = Authority.load_or_create(places.authority_key, places.authority, authority_domains(self._settings))
        for name, names in self._wanted().items():
            file = places.made[name]
            if self._is_good(file.name, Pair(file, file), names, authority):
                continue
            _log.info("making the certificate %s for %s", file, ", ".join(names))
            write_private(file, authority.issue(names))

    def _wanted(self) -> dict[str, list[str]]:
        shared = self._shared_domains()
        return {"system": system_names(self._settings), "apps": apps_names(self._settings, shared)}

    def _is_good(self, name: str, pair: Pair, names: list[str], authority: Authority) -> bool:
        """Whether the file needs nothing from our authority. One that ACME made is ACME's to renew, until it ends."""
        try:
            found = read_pair(pair)
        except CertificateProblem as problem:
            if pair.certificate.exists():
                _log.warning("%s; it is made anew", problem)
            return False
        if not authority.is_issuer_of(pair.certificate):
            return self._source == "acme" and found.days_left() > 0
        return not found.is_due() and not found.missing(names) and len(found.names) == len(names)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        failures = 0
        while True:
            await asyncio.to_thread(self.ensure)
            pause = _LOOK_SECONDS
            if self._source == "acme":
                try:
                    await self._by_acme()
                    failures = 0
                except (AcmeProblem, aiohttp.ClientError, TimeoutError, OSError) as error:
                    failures += 1
                    first, longest = _AGAIN
                    pause = min(first * 2 ** min(failures - 1, 20), longest)
                    _log.error(
                        "no certificate by ACME (%s); tried again in %.0f s", error or type(error).__name__, pause
                    )
            # Platforms that were started together do not ask together.
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def _by_acme(self) -> None:
        """Have certified what is not, or not for long. Raises AcmeProblem, aiohttp's errors, TimeoutError, OSError."""
        for name, names in acme_names(self._settings).items():
            file = self._places.directory / f"{name}.pem"
            if await asyncio.to_thread(self._needs_acme, Pair(file, file), names):
                chain = await obtain(self._settings, self._places, names)
                await asyncio.to_thread(write_private, file, chain)
                _log.info("certified by ACME: %s", ", ".join(names))

    def _needs_acme(self, pair: Pair, names: list[str]) -> bool:
        authority = self._places
        with contextlib.suppress(CertificateProblem):
            found = read_pair(pair)
            ours = Authority.load_or_create(
                authority.authority_key, authority.authority, authority_domains(self._settings)
            ).is_issuer_of(pair.certificate)
            return ours or found.is_due() or bool(found.missing(names))
        return True


def acme_names(settings: Settings) -> dict[str, list[str]]:
    """File to the names that ACME certifies for it: wildcards need the DNS (RFC 8555, 7.1.3)."""
    tls, system = settings.tls, settings.platform.system_domain
    if tls.acme_dns_command:
        apps = dict.fromkeys([settings.apps_domain, f"*.{settings.apps_domain}", *tls.acme_names])
        return {"system": [f"*.{system}"], "apps": list(apps)}
    return {"system": system_names(settings), **({"named": list(tls.acme_names)} if tls.acme_names else {})}
