"""A supervisor in a process of its own, for tests: stand-in programs as JSON, events as lines on standard output."""

import sys
from pathlib import Path

import msgspec

from cupola.config import Settings
from cupola.processes.supervisor import AlreadySupervised, CannotStart, Event, Program, Supervisor


def tell(event: Event) -> None:
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    settings = Settings(data_dir=Path(sys.argv[1]))
    settings.platform.description = sys.argv[3] if len(sys.argv) > 3 else ""
    programs = msgspec.json.decode(sys.argv[2], type=list[Program])
    extras = settings.data_dir / "extras.json"

    def look() -> list[Program]:
        return msgspec.json.decode(extras.read_bytes(), type=list[Program])

    if extras.exists():
        programs += [program for program in look() if program.wanted]
    supervisor = Supervisor(settings, programs, tell, look=look if extras.exists() else None)
    try:
        supervisor.lock()
        supervisor.run()
    except (AlreadySupervised, CannotStart) as error:
        tell(Event("", "failed", text=f"{type(error).__name__}: {error}"))
        return 3
    finally:
        supervisor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
