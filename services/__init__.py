"""The deployable services. They do not know each other; each stands on `shared`."""
