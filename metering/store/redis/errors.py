"""What talking to the store can fail of, beside what the store itself answers."""


class LinkLost(ConnectionError):
    """The store went away, or did not answer in time."""
