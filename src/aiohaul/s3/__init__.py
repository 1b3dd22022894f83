"""S3: listing, watching, copying and deleting objects, with local files on either side."""
