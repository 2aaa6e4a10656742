"""One module per kind of separator; torch is imported by those that need it, when they are loaded."""
