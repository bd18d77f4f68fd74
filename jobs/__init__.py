"""Spark's half: turns lists of URLs into shards, and Delta tables that account for every row.

A file at this level is an entry point (`ingest_images.py`, `publish.py`, `audit.py`) or what all entry points share
(session, catalog, commit, options, faults). Nothing here imports `lightning_modules`.
"""
