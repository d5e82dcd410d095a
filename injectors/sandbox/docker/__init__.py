"""Sandboxes on a Docker Engine: containers that opted in by the label ``gameday.sandbox=true``."""
