"""The process that owns a model; the only place where torch is imported."""
