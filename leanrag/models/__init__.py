"""Names of models to files."""
