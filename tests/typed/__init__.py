"""Scripts as users write them: pyright checks them in strict mode, and they run."""
