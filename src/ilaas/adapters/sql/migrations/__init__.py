"""The schema's history, as Alembic scripts: each brings the database one step further."""
