"""The Store on SQLAlchemy: SQLite when embedded, PostgreSQL when distributed."""
