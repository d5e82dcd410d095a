"""The shop: the sandbox application that drills break.

``gateway`` (1) → ``api`` (3) → ``store`` (1, SQLite). Each is one process,
configured by its environment only. It is a believable system, so it has
weaknesses; ``README.md`` in this folder names them and the settings that
remove them.
"""
