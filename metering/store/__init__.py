"""Where the vocabulary is kept: Redis, the journal, Postgres."""
