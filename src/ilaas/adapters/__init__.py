"""Implementations of ports other than HTTP: the store, the outbox, the broker, readers of server statistics."""
