"""Which series is what: roles from physics, contrast and time; names last."""
