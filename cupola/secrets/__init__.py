"""Secrets at rest, and secrets that the platform makes."""
