"""What a team believes, what gets broken and who responds: scenario files and their loader."""
