"""aiohaul's handlers and plugins for Open Task Framework (OTF)."""
