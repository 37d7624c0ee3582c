"""The vocabulary as frozen models. No I/O. Import from the module that owns the noun."""
