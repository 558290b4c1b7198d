"""The database's schema as numbered SQL files. An applied file is never edited; a change is the next number."""
