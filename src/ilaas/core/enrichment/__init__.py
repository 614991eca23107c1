"""Speech and enrichment: what is asked of a media file, the steps it goes through, and what comes out. Pure."""
