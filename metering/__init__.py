"""The shared vocabulary: pure models, and the stores that keep them."""
