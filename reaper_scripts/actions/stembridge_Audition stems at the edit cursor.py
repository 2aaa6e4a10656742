# @noindex
# Stembridge: Audition stems at the edit cursor.
import pathlib
import sys

VERSION = "0.1.0"
LIB = str(pathlib.Path(sys.path[0]).absolute().parent / "lib")
if LIB not in sys.path:
    sys.path.insert(1, LIB)

import stembridge_run  # noqa: E402

runtime = stembridge_run if stembridge_run.VERSION == VERSION else stembridge_run.renew()
runtime.act("audition", RPR_defer, RPR_atexit)  # noqa: F821
