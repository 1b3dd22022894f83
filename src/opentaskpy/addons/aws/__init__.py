"""AWS for Open Task Framework, by aiohaul."""
