"""``python -m proxy`` is ``pillion``."""

import sys

from proxy.cli import main

__all__ = ()

sys.exit(main())
