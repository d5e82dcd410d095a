"""What is played on each kind of sandbox: one module for each, named after it."""
