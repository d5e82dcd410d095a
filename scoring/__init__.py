"""From a drill's journal to verdicts, timings and a debrief: pure functions of its files."""
