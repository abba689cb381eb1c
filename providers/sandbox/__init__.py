"""The sandbox: the remote APIs, simulated, so that Darkroom works without an account and costs nothing."""
