"""Network faults in the network namespace of a process, such as a container's, by root on its host.

::

    ns = Namespace(pid, owners=[runner, watchdog])
    await ns.add(Toxic("latency", tag, {"delay": 0.05}), peers=["172.20.0.3"])
    await ns.toxics()        # read back from the kernel
    await ns.remove(tag)     # exactly that one

======================= =================================================================
``namespace``           `Namespace`: add, remove, toxics, fingerprint
``preflight``           `lacks`: what this machine cannot do, tried out in a namespace of its own
``kinds``               what each kind does to packets, as rules: pure
``mark``                how comments and aliases in the kernel name a fault
``rules``               rules of iptables: made all or none, found again by their comment
``shaping``             bandwidth: packets led through a device of our own (ifb) that is narrow
``queue``, ``packets``  latency, corrupt, duplicate: a helper process holds the packets
``detour``, ``tunnel``  latency where the kernel has no packet queue: the helper is a proxy
``interfaces``          the interfaces there, the user's and ours
``helpers``             starts these helpers, finds them by tag, ends them
``sockets``             resets open connections
``inside``              runs commands in the namespace of that very process, or not at all
``errands``, ``keeper`` the same from within, for whoever cannot enter: see ``Dockerfile``
======================= =================================================================

Nothing is remembered: each rule carries the fault's tag and parameters in its comment, each
device in its alias, each helper in its environment. So whoever looks finds them again, and
removes them one by one, without touching each other's or what the user set.
This file imports nothing: a helper is up in a tenth of a second.
"""
