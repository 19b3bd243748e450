"""Durable background work: run once (runner) and again and again (periodic)."""
