"""The command ``aiohaul``: arguments, displays, and the demo."""
