"""The ``local`` sandbox: a cluster of real processes on this machine, declared in YAML.

::

    runner ──orders──┐                      ┌── api-1, api-2 … (the services)
    watchdog ──undo──┼── supervisor ────────┼── gateway-1->api-1 … (link proxies, inside it)
    fixers ──hands───┘   (Unix socket)      └── burners (helpers, each with its tag)

`cluster` is what a user declares, `driver` is what a drill holds, `supervisor`
is the process that owns everything and ends with its owners.
"""
