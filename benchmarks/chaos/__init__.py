"""Everything a hospital does to a node at once, and whether anything was lost: python -m benchmarks.chaos.

Read in this order: ``plan`` (how much of what), ``run`` (the rig and its course), ``studies``, ``senders``, ``proxy``,
``node``, ``disk`` and ``faults`` (what is done to it), ``verdict`` (what must be true afterwards).
"""
