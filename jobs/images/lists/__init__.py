"""Lists of URLs: found, checked, and read into one DataFrame of rows.

    places ─► lines ─► formats ─┐
                                ├─► record ─► read        find checks a list against its YAML, scan divides large ones
              columnar ─────────┘

Only scan.py and read.py know Spark.
"""
