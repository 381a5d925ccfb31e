"""A desktop application: choose a folder, ask, and see each cited passage in its document. `docs/desktop.md` explains it."""
