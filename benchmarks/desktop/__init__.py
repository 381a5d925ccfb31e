"""How responsive the desktop example is."""
