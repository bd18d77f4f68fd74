"""The report of an ingest: how fast, how much, what went wrong and where, what the kept images look like.

    buckets.py      counts in bounded room: by name, by size, over time
    outcomes.py     one pass over the outcomes, a batch at a time
    thumbnails.py   some kept images, from the shards
    charts.py       numbers -> the geometry of a chart
    page.py         the HTML page
    running.py      page and JSON of a run that is going on, as the reporter writes them
    write.py        page and JSON at the end

Like the audit it reads Delta and shards without Spark; nothing here grows with the number of rows.
"""
