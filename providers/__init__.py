"""The remote image APIs: one folder each, and nothing of ours in them but the adapter contract."""
