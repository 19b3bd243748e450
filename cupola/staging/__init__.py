"""Staging: source in, droplet out."""
