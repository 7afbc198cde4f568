"""`python -m tests.mutation` from the root of a checkout."""

import sys

from tests.mutation.mutate import main

sys.exit(main())
