"""The journal, and what an interrupted run left."""
