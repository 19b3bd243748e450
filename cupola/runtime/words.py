"""The words of Cloud Foundry for how instances and tasks end."""

from cupola.runtime.engine import Container, Exit

__all__ = ["exit_description", "exit_lines", "task_failure"]


def _suffix(exit: Exit, grace: float) -> str:
    if exit.out_of_memory:
        return " (out of memory)"
    if exit.out_of_disk:
        return " (out of disk: the disk quota is used up)"
    return f" (exceeded {grace:g}s graceful shutdown interval)" if exit.killed else ""


def exit_description(exit: Exit, fallback: str) -> str:
    """`APP/PROC/WEB: Exited with status 1`; several joined by `; `. `fallback` is the main program's source."""
    note = " (out of memory)" if exit.out_of_memory else " (out of disk)" if exit.out_of_disk else ""
    statuses = exit.statuses or [(fallback, 255)]
    return "; ".join(f"{source}: Exited with status {status}{note}" for source, status in statuses)


def exit_lines(exit: Exit, grace: float) -> list[tuple[str, str]]:
    """(source, `Exit status N`) of each program, for the app's log."""
    return [(source, f"Exit status {status}{_suffix(exit, grace)}") for source, status in exit.statuses]


def task_failure(container: Container, exit: Exit, *, cancelled: bool, timed_out: bool) -> str:
    """Why a task failed; empty for success."""
    if timed_out:
        return f"exceeded the time limit of {container.timeout:g} seconds"
    if cancelled:
        return "task was cancelled"
    if exit.reason:
        return exit.reason
    if exit.status == 0 and not exit.out_of_memory and not exit.out_of_disk:
        return ""
    return exit_description(exit, container.programs[0].source)
