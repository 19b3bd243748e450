"""Log cache's HTTP face: recent envelopes of an app, read back by the cf CLI and other clients."""
