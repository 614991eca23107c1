"""Readers of the servers' own gauges: one per engine, pure but for `fetch`. Whatever a server sends, nothing raises."""
