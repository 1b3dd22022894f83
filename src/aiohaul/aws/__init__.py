"""Sends requests to AWS: connections, clients, credentials, retries and errors."""
