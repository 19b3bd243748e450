"""Cupola: a complete Cloud Foundry in Python."""

__version__ = "0.1.0"
