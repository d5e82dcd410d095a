"""``python -m gameday`` is the command ``gameday``."""

from gameday.drills.cli import main

main()
