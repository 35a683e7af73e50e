"""What `test_sharded_backbone.py` runs: the main job, whose main process is killed by SIGKILL when it is about to
bring a file to the disk whose path holds a word.

python tests/killed_job.py WORD [options of examples/train.py]
"""

import os
import runpy
import signal
import sys

from tests_support import ROOT

if __name__ == "__main__":
    word, sys.argv[:] = sys.argv[1], ["train.py", *sys.argv[2:]]
    to_disk = os.fsync

    def fsync(handle: int) -> None:
        if word in os.readlink(f"/proc/self/fd/{handle}"):
            os.kill(os.getpid(), signal.SIGKILL)
        to_disk(handle)

    os.fsync = fsync
    runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="__main__")
