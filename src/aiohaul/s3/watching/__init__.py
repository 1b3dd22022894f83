"""Waits and watches of S3 directories, with shared polls, SQS queues and cursors."""
