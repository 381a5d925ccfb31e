"""Conversations: what follow-up questions find, and how soon a late turn begins."""
