"""Certificates: an authority of our own, ACME, and what is in files."""
