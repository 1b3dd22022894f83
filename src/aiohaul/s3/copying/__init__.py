"""Copies: planned, spread over destinations, done by S3 itself where it can, and finished."""
