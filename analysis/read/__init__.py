"""Studies from their files: folders, tables, and the fields in them."""
