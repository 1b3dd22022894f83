"""Copies through this process: reads each source once, and writes it to all destinations."""
