"""The doctor: tries out what a bucket, its store and the credentials allow."""
