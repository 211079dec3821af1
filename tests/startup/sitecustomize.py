"""Settings of Python processes that tests start, unless they set `PYTHONPATH`.

To look for garbage among the half million objects that realax and jax consist of takes
a quarter of a short process's time, half of that at its end, where all is given back
to the system anyhow. Other files of this name are not run.
"""

import atexit
import gc


gc.set_threshold(50_000, 20, 20)
atexit.register(gc.freeze)
