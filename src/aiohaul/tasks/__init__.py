"""Task definitions: what they say, and carrying them out."""
