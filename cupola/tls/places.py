"""Where certificates lie. Imports nothing that reads them: the router does that with the `ssl` of the library.

data_dir/keys/authority.key     private key of our own authority; the controller's alone
data_dir/tls/authority.crt      its certificate, for clients
data_dir/tls/system.pem         key and chain of the system hosts, as `own` or `acme` made them
data_dir/tls/apps.pem           the same for apps
    data_dir/tls/named.pem          the same for single names of apps (`tls.acme_names`)
data_dir/tls/acme/              account, and the answers to challenges
data_dir/tls/domains/           DOMAIN.crt and DOMAIN.key of other domains (or `tls.domains_dir`)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cupola.config import Settings

__all__ = ["Pair", "Places", "Source", "source"]

Source = Literal["own", "files", "acme"]


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its private key; both may be in one file."""

    certificate: Path
    key: Path


def source(settings: Settings) -> Source:
    """Who issues the platform's certificates."""
    chosen = settings.tls.source
    if chosen == "auto":
        return "files" if settings.tls.certificate else "own"
    return chosen


class Places:
    """The files of one platform."""

    def __init__(self, settings: Settings) -> None:
        tls = settings.tls
        self.directory = settings.data_dir / "tls"
        self.authority_key = settings.data_dir / "keys" / "authority.key"
        self.authority = self.directory / "authority.crt"
        self.acme = self.directory / "acme"
        self.challenges = self.acme / "challenges"
        self.domains = Path(tls.domains_dir).expanduser() if tls.domains_dir else self.directory / "domains"
        self.made = {name: self.directory / f"{name}.pem" for name in ("system", "apps")}
        self.named = self.directory / "named.pem"
        single = source(settings) == "acme" and not tls.acme_dns_command
        self._names = [name.lower() for name in tls.acme_names] if single else []
        if source(settings) == "files":
            self.system = Pair(Path(tls.certificate), Path(tls.key))
            self.apps = Pair(Path(tls.apps_certificate), Path(tls.apps_key)) if tls.apps_certificate else self.system
        else:
            self.system, self.apps = (Pair(file, file) for file in self.made.values())

    def of_domains(self) -> dict[str, Pair]:
        """Domain or single name (lower case) to its files, for those that are there."""
        found = dict.fromkeys(self._names, Pair(self.named, self.named)) if self.named.exists() else {}
        try:
            entries = sorted(self.domains.iterdir())
        except OSError:
            return found
        for file in entries:
            key = file.with_suffix(".key")
            if file.suffix == ".crt" and key.exists():
                found[file.stem.lower()] = Pair(file, key)
        return found
