"""What the command line says of certificates: who issued them, until when they are good, what they lack."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cupola.cli.place import shown
from cupola.config import Settings
from cupola.tls.certificate import Certificate, CertificateProblem, read, read_pair
from cupola.tls.keeper import apps_names, system_names
from cupola.tls.places import Places, source

__all__ = ["Finding", "authority_file", "findings", "summary", "trust_hint", "warnings"]

_SOON_DAYS = 14


@dataclass(frozen=True)
class Finding:
    """One certificate: `what` it is for, what is in it, and what is wrong with it; `unusable` when nothing can be served."""

    what: str
    certificate: Certificate | None
    problem: str = ""
    remedy: str = ""
    unusable: bool = False


def authority_file(settings: Settings) -> Path | None:
    """The certificate of the platform's own authority, where clients need it to trust the platform."""
    file = Places(settings).authority
    return file if settings.platform.system_domain and source(settings) == "own" and file.exists() else None


def findings(settings: Settings) -> Iterator[Finding]:
    """Every certificate of the platform. Those that it makes itself, and has not made yet, are left out."""
    places = Places(settings)
    chosen = source(settings)
    wanted = {"system hosts": (places.system, system_names(settings)), "apps": (places.apps, apps_names(settings))}
    for what, (pair, names) in wanted.items():
        if chosen != "files" and not pair.certificate.exists():
            continue
        try:
            found = read_pair(pair)
        except CertificateProblem as problem:
            yield Finding(what, None, str(problem), "put right what tls.certificate and tls.key name", unusable=True)
        else:
            yield _judged(settings, what, found, names)
    for domain, pair in places.of_domains().items():
        try:
            yield _judged(settings, domain, read_pair(pair), [domain])
        except CertificateProblem as problem:
            yield Finding(domain, None, str(problem), "put a PEM pair there that belongs together, or take it away")


def _judged(settings: Settings, what: str, found: Certificate, names: list[str]) -> Finding:
    days = found.days_left()
    ours = source(settings)
    missing = found.missing(names)
    if days < 0:
        return Finding(what, found, f"{found.file} ended on {found.until}", _renewal(settings))
    if ours == "acme" and _is_own(settings, found):
        if what == "apps" and not settings.tls.acme_dns_command:
            text = f"{found.file} is the platform's own: ACME certifies whole domains by DNS only"
            return Finding(what, found, text, "set tls.acme_dns_command, or name single apps in tls.acme_names")
        text = f"{found.file} is the platform's own until the ACME server has issued one"
        return Finding(what, found, text, "see the controller's log for what the ACME server says")
    if missing:
        return Finding(what, found, f"{found.file} is not for {', '.join(missing)}", _renewal(settings))
    if days < _SOON_DAYS:
        return Finding(what, found, f"{found.file} ends on {found.until}, in {days:.0f} days", _renewal(settings))
    return Finding(what, found)


def _is_own(settings: Settings, found: Certificate) -> bool:
    try:
        return read(Places(settings).authority).issuer == found.issuer
    except CertificateProblem:
        return False


def _renewal(settings: Settings) -> str:
    if source(settings) == "files":
        return "replace the files that tls.certificate and tls.key name: the platform takes new ones at once"
    return "start the platform: its controller renews what is due; its log says when that fails"


def summary(settings: Settings) -> str:
    """One line on the certificate of the system hosts."""
    for finding in findings(settings):
        if finding.certificate is not None:
            who = {"own": "the platform's own authority", "acme": "ACME", "files": finding.certificate.issuer}
            return f"of {who[source(settings)]}, good until {finding.certificate.until}"
        return finding.problem
    return ""


def warnings(settings: Settings) -> list[str]:
    """Sentences for whoever starts a platform with a system domain."""
    if not settings.platform.system_domain:
        return []
    found = [f"{one.problem}: {one.remedy}" for one in findings(settings) if one.problem]
    if settings.apps_domain == settings.platform.system_domain:
        found.append(
            f"apps share the domain of the system hosts: an app can set cookies for all of {settings.apps_domain}. "
            "Better give apps a domain of their own (--apps-domain)"
        )
    return found


def trust_hint(settings: Settings) -> str:
    """How clients come to trust the platform, where that needs something."""
    file = authority_file(settings)
    return f"export SSL_CERT_FILE={shown(file)}" if file else ""
