"""Checkpoints in the tools of others; needs the extra ``interop``, and nothing else imports it."""
