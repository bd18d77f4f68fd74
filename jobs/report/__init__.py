"""The licence report: reads a catalog and a manifest, and says what was kept, what was refused, and why.

    tables.py    SQL over the catalog's Delta tables and the manifest's rows, in this process
    checks.py    what must hold, each check with the rows that break it
    figures.py   sums, counts and lists
    gallery.py   thumbnails of kept samples
    page.py      the HTML page
    write.py     all of it, written to a folder

Nothing here needs Spark, and nothing holds the rows: SQL streams, lists are bounded, the whole lists are JSON lines.
"""
