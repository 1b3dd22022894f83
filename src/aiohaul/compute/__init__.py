"""Compute: Lambda functions and Fargate tasks."""
