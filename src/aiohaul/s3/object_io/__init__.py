"""Reads, writes, lists and deletes objects for applications, by key."""
