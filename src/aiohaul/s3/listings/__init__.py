"""Listings of buckets: pages, ranges of keys, and the parallel listing of large prefixes."""
