"""The database: tables, statements and migrations. One file per table or close family of tables."""
