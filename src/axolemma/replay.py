"""Work on a GPU that is recorded once and then replayed, so that it need not wait for Python."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Replayed"]

#: How often the work is done as it comes before it is recorded: at first, libraries choose their
#: algorithms and take memory, which cannot be recorded.
_BEFORE = 3


class Replayed:
    """The same work on tensors of the same shapes, over and over, as one CUDA graph.

    A small network is hundreds of short kernels, and starting each of them from Python takes longer
    than most of them run. Recorded, they start all at once. Chance goes on as it would: what is
    drawn by ``torch.manual_seed`` before a call is drawn in the replay too.

    Parameters
    ----------
    work
        Takes tensors on one GPU and returns one. It must not look at values on the way: what does
        cannot be recorded, and torch does not recover from trying.

    Notes
    -----
    What a call returns is overwritten by the next one. What the work makes and leaves behind, such
    as gradients, is overwritten too, and nobody else may put something else in its place.
    """

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self._work = work
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: tuple[Tensor, ...] = ()
        self._found: Tensor | None = None

    def __call__(self, *given: Tensor) -> Tensor:
        """Do the work."""
        with torch.cuda.device(given[0].device):
            if self._calls < _BEFORE:
                self._calls += 1
                return self._beside(*given)
            if self._graph is None:
                self._record(*given)
            assert self._graph is not None
            assert self._found is not None
            for mine, its in zip(self._given, given, strict=True):
                mine.copy_(its)
            self._graph.replay()
            return self._found

    def _beside(self, *given: Tensor) -> Tensor:
        """Do the work on a stream of its own, as it is recorded on one."""
        here = torch.cuda.current_stream()
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            found = self._work(*given)
        here.wait_stream(beside)
        return found

    def _record(self, *given: Tensor) -> None:
        graph, mine = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in given)
        # A stream of this device: torch keeps one for all. Other threads go on cutting crops.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            found = self._work(*mine)
        self._graph, self._given, self._found = graph, mine, found
