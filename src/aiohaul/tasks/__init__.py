"""Parses and runs the definitions of transfers, executions and batches."""
