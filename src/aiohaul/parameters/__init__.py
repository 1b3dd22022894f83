"""Parameters and secrets: SSM and Secrets Manager."""
