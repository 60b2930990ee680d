"""Which weights are used: what people decided about models (registry.py), and models that are tried (shadow.py)."""
