"""Running drills: the director decides, the runner acts, the journal remembers."""
