"""Operators: schema, inference and meaning, each defined once."""
