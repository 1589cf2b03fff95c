"""The reference step: autograd and an optimiser, in the plainest form, on any device."""

from __future__ import annotations

import numpy as np
import torch

from lthnb.config import ConfigError, Spec
from lthnb.data import Interactions
from lthnb.kernels.mf import BETA_1, BETA_2, EPSILON
from lthnb.models import BACKBONES, DTYPES, bpr_loss
from lthnb.sampling import Sampler


class RowwiseAdam(torch.optim.Optimizer):
    """Adam whose second moment is the mean over a row's kept entries, so that a step divides the
    row by one number: without pruned entries it turns with the table. kept: entries of each row,
    (rows, 1)."""

    def __init__(self, parameters, lr: float, kept: torch.Tensor) -> None:
        super().__init__(parameters, {"lr": lr})
        self.kept = kept.clamp(min=1)

    @torch.no_grad()
    def step(self) -> None:
        [group] = self.param_groups
        [table] = group["params"]
        state = self.state[table]
        if not state:
            moments = {name: torch.zeros_like(table) for name in ("exp_avg", "exp_avg_sq")}
            state.update(moments, step=torch.tensor(0.0))
        state["step"] += 1
        steps = state["step"].item()
        squares = (table.grad.square().sum(1, keepdim=True) / self.kept).expand_as(table)
        first = state["exp_avg"].lerp_(table.grad, 1 - BETA_1) / (1 - BETA_1**steps)
        second = state["exp_avg_sq"].lerp_(squares, 1 - BETA_2) / (1 - BETA_2**steps)
        table.addcdiv_(first, second.sqrt() + EPSILON, value=-group["lr"])


OPTIMIZERS = {
    "adam": lambda parameter, lr, kept: torch.optim.Adam([parameter], lr=lr, fused=True),
    "rowwise-adam": lambda parameter, lr, kept: RowwiseAdam([parameter], lr, kept),
    "sgd": lambda parameter, lr, kept: torch.optim.SGD([parameter], lr=lr),
}


class ReferenceStep:
    """One table, trained by autograd.

    table: a start, (rows, F); mask: bool (rows, F). The gradient is masked before the optimiser
    sees it, so that a pruned entry gets no moment. Raises ConfigError where `device` is a GPU and
    there is none. What is trained is `parameter`, called `trained` in the state.
    """

    trained = "table"

    def __init__(
        self,
        spec: Spec,
        data: Interactions,
        table: np.ndarray,
        mask: np.ndarray,
        device: str = "cpu",
    ) -> None:
        if device != "cpu" and not torch.cuda.is_available():
            raise ConfigError(f"device: found {device!r}, expected 'cpu': torch sees no GPU here.")
        t = spec.training
        dtype = DTYPES[t.dtype]
        self.spec, self.device = spec, device
        self.users, self.triplets = data.users, data.train.nnz
        self.mask = None if mask.all() else torch.from_numpy(mask.copy()).to(device)
        start = torch.from_numpy(self._start(table, mask, dtype)).to(device, dtype)
        self.parameter = torch.nn.Parameter(start)
        self.backbone = BACKBONES[spec.model.backbone](spec.model, data, dtype, device)
        kept = torch.from_numpy(mask.sum(1, keepdims=True)).to(device, dtype)
        self.optimizer = OPTIMIZERS[t.optimizer](self.parameter, t.learning_rate, kept)
        self.sampler = Sampler.of(data.train, t.order_seed, data.positives)

    def _start(self, table: np.ndarray, mask: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        """The parameter at its start."""
        return np.where(mask, table, 0.0)

    def _table(self) -> torch.Tensor:
        """The table that the parameter stands for: (rows, F), with gradient."""
        return self.parameter

    def run_epoch(self, epoch: int) -> float:
        """Train on triplets epoch · |train| … (epoch + 1) · |train| − 1; gives their mean loss."""
        t = self.spec.training
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        first, end = epoch * self.triplets, (epoch + 1) * self.triplets
        for at in range(first, end, t.batch_size):
            count = min(t.batch_size, end - at)
            loss = self._loss(torch.from_numpy(self.sampler.draw(at, count)).to(self.device))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.mask is not None:
                self.parameter.grad.mul_(self.mask)
            self.optimizer.step()
            total += loss.detach().double() * count
        return float(total) / self.triplets

    def _loss(self, triplets: torch.Tensor) -> torch.Tensor:
        table = self._table()
        outputs = self.backbone.outputs(table)
        return bpr_loss(outputs, table, triplets, users=self.users, l2=self.spec.training.l2)

    @torch.no_grad()
    def outputs(self) -> torch.Tensor:
        """Rows to score with: (rows, F), users first, without gradient."""
        return self.backbone.outputs(self._table().detach())

    @torch.no_grad()
    def weights(self) -> np.ndarray:
        """A copy of the table: (rows, F)."""
        return self._table().detach().cpu().numpy().copy()

    def done(self) -> bool:
        """Never by itself."""
        return False

    def state(self) -> dict[str, np.ndarray]:
        """Parameter, moments and step count, as copies."""
        moments = self.optimizer.state[self.parameter]
        zero = torch.zeros_like(self.parameter)
        return {
            self.trained: self.parameter.detach().cpu().numpy().copy(),
            "first": moments.get("exp_avg", zero).cpu().numpy().copy(),
            "second": moments.get("exp_avg_sq", zero).cpu().numpy().copy(),
            "steps": np.array(float(moments.get("step", 0.0))),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` gave, to the same bits."""
        to = {"device": self.device, "dtype": self.parameter.dtype}
        with torch.no_grad():
            self.parameter.copy_(torch.from_numpy(state[self.trained]).to(**to))
        if state["steps"] > 0:
            self.optimizer.state[self.parameter] = {
                "step": torch.tensor(float(state["steps"]), device=self.device),
                "exp_avg": torch.from_numpy(state["first"].copy()).to(**to),
                "exp_avg_sq": torch.from_numpy(state["second"].copy()).to(**to),
            }
