"""The command ``gameday``, and ``python -m gameday``.

It imports nothing until it can say that it was interrupted: an import takes long enough for
somebody to press Ctrl-C in it.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command and leave with its exit code."""
    try:
        from gameday.drills.cli import main as run

        run()
    except KeyboardInterrupt:
        import os

        os.write(2, b"gameday: interrupted\n")
        os._exit(130)


if __name__ == "__main__":
    main()
