# Parts of the standard library's own tests; held out: other parts of them.
prepare() {
    put /load/run.py <<'END'
import sys
import unittest
from test import support

support.use_resources = ["network"]
names = ["test." + name for name in sys.argv[1:]]
result = unittest.TextTestRunner(verbosity=1).run(unittest.defaultTestLoader.loadTestsFromNames(names))
print("LOAD DONE" if result.wasSuccessful() and result.testsRun > 20 else "FAILED", result.testsRun)
END
}
