"""The data plane: HTTP routes to app instances, and the table that says where they are."""
