"""Regexes: Python's meaning, in a bounded time for every name and line."""
