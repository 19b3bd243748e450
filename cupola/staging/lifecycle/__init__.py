"""What runs inside containers, with nothing but Python's standard library: the builder and the launcher."""
