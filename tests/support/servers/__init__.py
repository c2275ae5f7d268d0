"""Programs that run in an environment of their own, with third-party model servers."""
