"""The rules, as plain functions over one transaction; by resource or by activity. No web framework here."""
