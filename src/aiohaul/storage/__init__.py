"""Local storage: SQLite databases and private files."""
