"""Images: one file per stage of a work unit, and `unit.py`, the only one that composes them.

read ─► plan ─► [ policy ─► fetch ─► decode ─► resize ─► shards ] ─► duplicates
                  └──────────────── unit.py ────────────────┘
"""
