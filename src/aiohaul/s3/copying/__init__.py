"""Plans copies, runs them for every destination, and applies the post-copy action."""
