"""Where entries are kept: storages of aiohttp-client-cache, bounded and without pickle."""

__all__ = ()
