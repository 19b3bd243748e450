"""The front desk: one file per resource of the V3 API. `OPERATIONS` is the complete API, on one screen."""
