"""What a site and a file say about their use for training: robots.txt, headers, well-known files, metadata.

    check.py      Rights: before the request, after the answer                 finding.py   what it returns
    sites.py      one fetch per origin and file, cached                        options.py   cache sizes, our name
    groups.py     the group of a robots-like file that is ours                 patterns.py  path patterns, URLs
    robots.py aitxt.py tdmrep.py aipref.py xrobots.py                           one protocol each
    blocks.py     where XMP, IPTC and C2PA lie in an image's bytes             xmp.py iim.py c2pa.py   what they say

Knows nothing of rows, policies of licences, or pixels. Requests go through a function that it is given.
"""
