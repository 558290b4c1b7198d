"""Redis: scripts, what control publishes, and the lean connection of the hot path."""
