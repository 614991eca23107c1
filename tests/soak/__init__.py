"""The whole platform under load for a long time, while its parts die, pause and restart: `make soak`, outside CI."""
