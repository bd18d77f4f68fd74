"""What a person sees while units run. It decides nothing, and a run without it comes to the same.

    tally.py       sums of the units' reports, rates, time left: all that the rest shows
    terminal.py    a bar on a terminal, plain lines in a log
    feed.py        the driver's end of a pipe to the reporter; full pipes lose news, never time
    reporter.py    a process of its own at the lowest priority: resources, TensorBoard, W&B, the report of the minute
    resources.py   cores, memory, network and disk of this machine
    history.py     samples over time, thinned so that a month takes no more room than an hour
    sinks.py       TensorBoard and W&B
    live.py        tally, terminal and feed, as the ingest calls them
    summary.py     the figures at the end, as a table
    words.py       bytes and times for reading

A unit's report is all that the driver gets: its fields here are `planned`, `kept`, `reasons`, `requests`, `n_bytes`,
`seconds` and `hosts`, and any of them may be absent. Nothing here costs an executor anything.
"""
