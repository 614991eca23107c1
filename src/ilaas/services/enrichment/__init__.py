"""Speech and enrichment: what clients ask of the service, and what its workers do."""
