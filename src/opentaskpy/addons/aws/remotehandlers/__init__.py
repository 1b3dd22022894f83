"""OTF's remote handlers for S3, Lambda and Fargate."""
