"""What the caches find, what they must not find, and what they cost."""
