"""Bytes through this process: read once, in parts, and written to every destination."""
