"""Programs that show leanrag at work; each runs in the tests."""
