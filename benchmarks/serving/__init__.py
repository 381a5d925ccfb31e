"""A server asked by many clients."""
