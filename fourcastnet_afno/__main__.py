"""``python -m fourcastnet_afno`` is ``fourcastnet-afno``."""

import sys

from fourcastnet_afno.cli.main import main

sys.exit(main())
