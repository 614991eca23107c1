"""One address and one key in front of every member's inference servers."""

__version__ = "0.1.0"
