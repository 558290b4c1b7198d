"""`pytest -p tests.compiled`: the tests' own process imports the compiled hot path, and so must the workers that tests start."""

import os

from gateway import compiled

os.environ["WEIGHBRIDGE_COMPILED"] = compiled.Choice.YES
compiled.use(compiled.Choice.YES)
