"""The direct way to S3: requests built, signed, sent and read without botocore's machinery."""
