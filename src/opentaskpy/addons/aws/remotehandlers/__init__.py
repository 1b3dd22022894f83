"""Remote handlers: S3, Lambda and Fargate."""
