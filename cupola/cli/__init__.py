"""The `cupola` command. What a command needs is imported when it runs, so that help and short commands are quick."""

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    from cupola.cli.commands import cupola

    cupola(prog_name="cupola")
