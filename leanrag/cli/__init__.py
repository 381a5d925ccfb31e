"""The `leanrag` command."""
