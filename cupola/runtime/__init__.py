"""Runs workloads: the engine protocol, the planner, the reconciler and the native engine."""
