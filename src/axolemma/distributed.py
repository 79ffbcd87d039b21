"""One training in several processes, as ``torchrun`` starts them; and in one, where nothing is so.

Every process does the same, but for its share of the crops and of the sections to predict. What
depends on all of them is made equal in all of them: the loss is that of the whole batch, gradients
are summed (DistributedDataParallel), batch normalisation takes its statistics from the whole batch,
dropout its chance. So the result is that of one process with the same batch, but for rounding.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from axolemma.errors import AxolemmaError, SettingsError
from axolemma.models import heads

__all__ = ["ALONE", "Team", "joined"]


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training, as one of them sees them.

    Parameters
    ----------
    rank, size
        The number of this process, from 0, and how many there are.
    place, here
        The number of this process among those on its machine, and how many these are.
    """

    rank: int = 0
    size: int = 1
    place: int = 0
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def device(self, chosen: torch.device) -> torch.device:
        """Return the device of this process, where all have chosen one: a GPU of its own.

        Raises
        ------
        SettingsError
            If one GPU is chosen for all of them, or there are fewer than processes.
        """
        if self.size == 1 or chosen.type == "cpu":
            return chosen
        if ":" in str(chosen):
            raise SettingsError(
                f"device '{chosen}' would be that of all {self.size} processes; take cuda: each"
                " then has its own"
            )
        if self.here > torch.cuda.device_count():
            raise SettingsError(
                f"{self.here} processes have only {torch.cuda.device_count()} GPUs on this machine;"
                " start as many as there are: torchrun --nproc-per-node"
            )
        torch.cuda.set_device(self.place)
        return torch.device("cuda", self.place)

    def share(self, count: int) -> range:
        """Return which of `count` crops are this process's.

        Raises
        ------
        SettingsError
            If they cannot be shared out evenly: the sums over them would weigh some more.
        """
        if count % self.size:
            raise SettingsError(
                f"a batch of {count} crops cannot be shared out evenly among {self.size} processes;"
                f" take a multiple of {self.size}: batch"
            )
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def learner(self, network: nn.Module, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
        """Return what gives the logits of this process's crops, see `models.heads`.

        Among several it exchanges its layers for such that know of each other, so it is called
        before anybody takes hold of the weights.
        """
        if self.size == 1:
            return partial(heads, network)
        _connect(network, self, device)
        # A group of its own, which it may hold for as long as it likes. Were it the one that all
        # else is said over, `joined` could not end that: its threads then let go of the last
        # tensors when Python is ending, which aborts, or while it waits for them, which hangs.
        return DistributedDataParallel(
            _Heads(network),
            device_ids=None if device.type == "cpu" else [device],
            process_group=distributed.new_group(),
        )

    def whole(self, mine: Tensor) -> Tensor:
        """Put the shares of all processes together, (N, …) of each, in their order.

        Its gradient is the one that DistributedDataParallel wants of a process that knows the loss
        of all of them: the mean over processes of what it then gives is the gradient of that loss.
        """
        if self.size == 1:
            return mine
        return _Whole.apply(mine, self)  # type: ignore[no-any-return, no-untyped-call]

    def agreed(self, value: float) -> float:
        """Return the value that the first process has: its clock decides."""
        if self.size == 1:
            return value
        said = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(said, 0)
        return float(said)

    def summed(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up the arrays of all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(torch.from_numpy(array))
        return array

    def led(self, do: Callable[[], object]) -> None:
        """Let the first process do something while the others wait; they raise what it raises."""
        if self.size == 1:
            do()
            return
        said: list[Exception | None] = [None]
        if self.first:
            try:
                do()
            except (AxolemmaError, OSError) as error:
                said = [error]
        distributed.broadcast_object_list(said)
        if said[0] is not None:
            raise said[0]


#: A process that shares nothing.
ALONE = Team()


@contextmanager
def joined() -> Iterator[Team]:
    """Meet the other processes that ``torchrun`` has started; without it this one is alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not all(name in os.environ for name in (*names, "MASTER_ADDR")):
        yield ALONE
        return
    team = Team(*(int(os.environ[name]) for name in names))
    if team.size == 1:
        yield team
        return
    on_gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    yield team
    # Not where this one fails: the others may still wait for it, and are ended by torchrun.
    distributed.destroy_process_group()


class _Heads(nn.Module):
    """A network as DistributedDataParallel wants it: all heads come from one call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> list[Tensor]:
        return heads(self.network, crops)


class _Whole(torch.autograd.Function):
    """The shares of all processes in one tensor."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, team: Team) -> Tensor:
        ctx.team = team
        mine = mine.contiguous()
        parts = [torch.empty_like(mine) for _ in range(team.size)]
        distributed.all_gather(parts, mine)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), team = gradients, ctx.team
        share = gradient.chunk(team.size)[team.rank]
        return share * team.size, None


class _Summed(torch.autograd.Function):
    """The sum over all processes, in each of them."""

    @staticmethod
    def forward(_: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        # What one process adds changes the loss through what every one makes of the sum.
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class _SharedNorm(nn.BatchNorm2d):
    """Batch normalisation by the batches of all processes, which are equally large.

    For processors; torch's own SyncBatchNorm is for GPUs alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = values[:, 0].numel() * distributed.get_world_size()
        mean = _summed(values.sum((0, 2, 3)) / count)
        off = values - mean[:, None, None]
        variance = _summed((off * off).sum((0, 2, 3)) / count)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (off * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SharedDropout(nn.Dropout):
    """Dropout of one share of a batch: what chance would drop of it in the whole batch."""

    def __init__(self, p: float, team: Team) -> None:
        super().__init__(p)
        self.team = team

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        # Chance fills memory in its order, so what it fills lies as the whole batch would.
        ones = torch.ones_like(torch.cat([x.detach()] * self.team.size))
        return x * functional.dropout(ones, self.p).chunk(self.team.size)[self.team.rank]


def _summed(mine: Tensor) -> Tensor:
    return _Summed.apply(mine)  # type: ignore[no-any-return, no-untyped-call]


def _connect(network: nn.Module, team: Team, device: torch.device) -> None:
    """Exchange the layers that look at the whole batch for such as know of the other processes."""
    norm = nn.SyncBatchNorm if device.type == "cuda" else _SharedNorm
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                shared = norm(child.num_features, eps=child.eps, momentum=child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(parent, name, shared.to(device))
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, _SharedDropout(child.p, team))
