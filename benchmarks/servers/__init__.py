"""Servers as they answer: the shapes of many vendors, and misbehaviours."""
