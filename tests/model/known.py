"""What the engine is known to do otherwise than the model: left out in its tests, and marked in `test_found`."""

import os

KNOWN = {
    "waits after a rerun",  # are shortened
    "rerun of a sub-job that is waited for",  # is not heard of
    "progress after a retry",  # that of a run that COMPLETED stays 1
}
"""Take an entry away once it is mended. NBBATCH_MODEL_KNOWN="one,another" says otherwise for a run, "" leaves out nothing."""
if "NBBATCH_MODEL_KNOWN" in os.environ:
    KNOWN = set(os.environ["NBBATCH_MODEL_KNOWN"].split(","))
