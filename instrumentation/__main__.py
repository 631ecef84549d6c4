"""``python -m fillpath.instrumentation [options] SCRIPT [ARGS]``."""

import sys

from fillpath.instrumentation.runner import main

sys.exit(main())
