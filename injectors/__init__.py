"""What breaks things, and what puts them back: sandboxes, faults, undo."""
