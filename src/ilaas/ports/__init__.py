"""What services ask of the world: Protocols and their errors. No implementation lives here."""
