"""What a site and a file say about their use for training: robots.txt, headers, well-known files, metadata."""
