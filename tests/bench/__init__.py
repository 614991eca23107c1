"""Measures what the gateway itself costs, side by side with other proxies and against bars: `python -m tests.bench`."""
