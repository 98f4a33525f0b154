"""The feature store and the extraction that fills it; import the modules, as in `cache.store`."""
