"""The Store on SQLAlchemy Core: SQLite when embedded, PostgreSQL when distributed. A file per entity."""

from ilaas.adapters.sql.enrichment_store import SqlEnrichmentStore
from ilaas.adapters.sql.store import SqlStore

__all__ = ["SqlEnrichmentStore", "SqlStore"]
