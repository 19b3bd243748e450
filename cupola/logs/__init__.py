"""Log and metric envelopes: numbering, spools on disk, and the ring that is read back."""
