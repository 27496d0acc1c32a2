"""``python -m fourcastnet_afno`` is ``fourcastnet-afno``."""

import sys

from fourcastnet_afno.cli import main

sys.exit(main())
