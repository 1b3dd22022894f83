"""The fast path to S3, which builds, signs and sends requests and parses responses itself."""
