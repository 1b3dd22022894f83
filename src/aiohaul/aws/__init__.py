"""The only rooms that know botocore: connections, credentials, configuration and its errors."""
