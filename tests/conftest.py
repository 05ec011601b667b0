"""For the whole suite: one thread a process. Two test processes with two threads each fight over two cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start, too

import torch

torch.set_num_threads(1)
