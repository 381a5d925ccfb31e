"""leanrag against the usual way, on the same questions, and what `tune` keeps of its promise."""
