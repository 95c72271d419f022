"""Compatible representation learning: five papers as one importable library and the study that reproduces them."""

import os
import sys


def _compute_on_one_thread() -> None:
    """In a forked process: the threads of torch and faiss are the parent's, and to wait for one is to wait for ever.

    As torch does in the workers of a `DataLoader`.
    """
    for library, limit in (("torch", "set_num_threads"), ("faiss", "omp_set_num_threads")):
        if hasattr(sys.modules.get(library), limit):
            getattr(sys.modules[library], limit)(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which forks nothing
    os.register_at_fork(after_in_child=_compute_on_one_thread)
