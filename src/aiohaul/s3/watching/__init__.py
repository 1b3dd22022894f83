"""Waiting and watching: polls that watches share, queues of events, and what counts as new."""
