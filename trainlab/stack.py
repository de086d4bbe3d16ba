"""Models as rows of one matrix.

All trainable parameters of R models of one architecture live in `w` (R, P), their gradients in `g`
(R, P), so an optimizer is a few lines on two matrices, however many layers there are. A single run
is a stack of one.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import make_dual, unpack_dual
from torch.func import functional_call, vmap

from trainlab import activations, norms, parallel
from trainlab.architectures.ensembles import Ensemble
from trainlab.layout import layout
from trainlab.noise import Noisy
from trainlab.streams import seed_of

# Layers that treat every number by itself, so that leading axes do not matter.
_ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid,
    nn.Softsign, nn.LogSigmoid, activations.Step, activations.SquaredReLU, activations.Exponential,
)  # fmt: skip

Values = dict[str, Tensor]  # of a whole stack: "w" (R, P), and each buffer (R, *shape)


class Stack:
    """R models of one architecture as one: `stack(x)` maps (R, B, *inputs) to (R, B, outputs).

    With R = 1 the model is called as it is, its parameters being views into `w`. Plain dense nets
    run as batched matrix products, everything else under vmap; members agree with their solo runs
    either way. R ensembles of k nets are computed as R · k models, for w, where net follows net, is
    their matrix (R · k, P/k) too; a single ensemble only if its nets are plain dense ones.

    >>> models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    >>> stack = Stack(models)
    >>> stack(torch.ones(2, 5, 3)).shape, stack.w.shape
    (torch.Size([2, 5, 2]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        device: torch.device | str = "cpu",
        compiled: bool = False,
    ):
        self.size, self.device, self.compiled = len(models), torch.device(device), compiled
        self.seed: int | None = None  # of a model that draws from torch's global generator
        self.template = copy.deepcopy(models[0]).to(device)
        self.shapes = _shapes(self.template)
        self.parameters = sum(math.prod(shape) for shape in self.shapes.values())
        self.w = torch.empty(self.size, self.parameters, device=device)
        self.g = torch.zeros_like(self.w)
        states = [_named_tensors(model) for model in models]
        for name, block in _blocks(self.w, self.shapes).items():
            for row, state in zip(block, states, strict=True):
                row.copy_(state[name].detach())
        self.buffers = {  # frozen parameters too: all that is a model's own and not trained
            name: torch.stack([state[name].detach().to(device) for state in states])
            for name in states[0]
            if name not in self.shapes
        }
        self.layout = layout(self.template, self.device)
        # What autograd sees: views into w, each with so many models in it.
        self._forward, self._leaves, self._models = self._pick_forward()
        self._steps = [  # of layers that draw noise: what tells them the step
            buffer for name, buffer in self.buffers.items()
            if isinstance(self.template.get_submodule(name.rpartition(".")[0]), Noisy)
            and name.endswith("step")
        ]  # fmt: skip

    @property
    def leaves(self) -> dict[str, nn.Parameter]:
        """The parameters of a single run, views into w."""
        return {name: nn.Parameter(v[0]) for name, v in _blocks(self.w, self.shapes).items()}

    def _pick_forward(self) -> tuple[Callable[[Tensor], Tensor], list[Tensor], int]:
        nets = {"": self.template}
        if type(self.template) is Ensemble:
            nets = {f"members.{i}.": net for i, net in enumerate(self.template.members)}
        k, net = len(nets), next(iter(nets.values()))
        if self.size > 1 or (k > 1 and not self.compiled):
            leaves, buffers = self._side_by_side(net, list(nets))
            forward = _dense(net, leaves | buffers)
            if forward is None and self.size > 1:  # a single ensemble is faster one by one
                forward = _vmapped(net, leaves, buffers)
            if forward is not None:
                whole = forward if net is self.template else partial(_ensembles, forward, k)
                return whole, list(leaves.values()), self.size * k
        leaves = self.leaves
        _replace(self.template, leaves | {name: b[0] for name, b in self.buffers.items()})
        module = torch.compile(self.template) if self.compiled else self.template
        return lambda x: module(x[0])[None], list(leaves.values()), 1

    def _side_by_side(self, net: nn.Module, prefixes: Sequence[str]) -> tuple[Values, Values]:
        """Leaves and buffers of the k nets of each of R models, which are like `net` and have these
        prefixes, by their names in one: (R · k, *shape), in memory shared with w and `buffers`."""
        shapes, buffers = _shapes(net), {}
        leaves = _blocks(self.w.view(self.size * len(prefixes), -1), shapes)
        for name in _named_tensors(net):
            if name in shapes:
                leaves[name].requires_grad_()
                continue
            names = [prefix + name for prefix in prefixes]
            joint = torch.stack([self.buffers[own] for own in names], 1)  # (R, k, *shape)
            self.buffers |= dict(zip(names, joint.unbind(1), strict=True))
            buffers[name] = joint.flatten(0, 1)
        return leaves, buffers

    def __call__(self, x: Tensor) -> Tensor:
        return self._forward(x)

    def backward(self, loss: Tensor, weights: Tensor | None = None, add: bool = False) -> None:
        """Gradients of the sum of `loss` (R, …), times `weights` of its shape if given, into `g`.

        On top of what is there if `add`.
        """
        # A scalar, because torch imports sympy (0.4 s) to compare the shapes of anything else.
        total = loss.sum() if weights is None else torch.dot(loss.flatten(), weights.flatten())
        along = unpack_dual(self.w).tangent  # None, unless w is a dual number (hypergradient.py)
        gradients = torch.autograd.grad(
            total, self._leaves, create_graph=along is not None, materialize_grads=True
        )
        if along is not None:
            gradients = _dual(gradients, self._leaves, along.view(self._models, -1))
        rows = [gradient.reshape(self._models, -1) for gradient in gradients]
        g = self.g.view(self._models, -1)
        if add:
            g += torch.cat(rows, 1)
        elif along is not None:
            g.copy_(torch.cat(rows, 1))  # `out=` has no derivative
        else:
            torch.cat(rows, 1, out=g)

    def train(self, mode: bool = True) -> None:
        self.template.train(mode)

    def at(self, step: int) -> None:
        """The step whose noise (dropout, …) the next forward pass draws."""
        if self.seed is not None:
            torch.manual_seed(seed_of(self.seed, "global", step))
        for buffer in self._steps:
            buffer.fill_(step)

    def gradients(self) -> list[Tensor]:
        """Views into g, one for each parameter, (R, *shape)."""
        return list(_blocks(self.g, self.shapes).values())

    def values(self) -> Values:
        """Everything that makes the members what they are, by reference."""
        return {"w": self.w, **self.buffers}

    def _own(self, r: int, values: Values | None = None) -> Values:
        """Member r's parameters and buffers by name, with their own memory on the CPU."""
        values = values or self.values()
        own = _blocks(values["w"], self.shapes) | {name: values[name] for name in self.buffers}
        return {name: rows[r].detach().cpu().clone() for name, rows in own.items()}

    def state_dict(self, r: int, values: Values | None = None) -> Values:
        """Member r as the state dict of an ordinary module, with its own memory on the CPU."""
        own, kept = self._own(r, values), self.template.state_dict(keep_vars=True)
        first = {id(tensor): name for name, tensor in _named_tensors(self.template).items()}
        return {name: own[first.get(id(tensor), name)] for name, tensor in kept.items()}

    def member(self, r: int, values: Values | None = None) -> nn.Module:
        """Member r as an ordinary nn.Module of its own, on the CPU."""
        model = copy.deepcopy(self.template).cpu()
        own = self._own(r, values)
        _replace(model, {n: nn.Parameter(own[n]) if n in self.shapes else own[n] for n in own})
        return model

    def load(self, r: int, state: Values) -> None:
        """Put the state dict of an ordinary module into row r."""
        with torch.no_grad():
            flat = torch.cat([state[name].flatten() for name in self.shapes])
            self.w[r].copy_(flat)
            for name, buffer in self.buffers.items():
                if name in state:
                    buffer[r].copy_(state[name])


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of the trainable parameters."""
    return {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}


def _blocks(matrix: Tensor, shapes: dict[str, tuple[int, ...]]) -> Values:
    """Views into the columns of each parameter, (rows, columns) -> (rows, *shape) each."""
    blocks = matrix.split([math.prod(shape) for shape in shapes.values()], 1)
    named = zip(shapes.items(), blocks, strict=True)
    return {name: block.view(len(matrix), *shape) for (name, shape), block in named}


def _named_tensors(model: nn.Module) -> Values:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _replace(model: nn.Module, tensors: Values) -> None:
    """Put tensors in the place of a model's parameters and buffers, shared ones staying shared."""
    old = {id(tensor): name for name, tensor in _named_tensors(model).items()}
    for module in model.modules():
        for slots in (module._parameters, module._buffers):
            for key, tensor in slots.items():
                name = old.get(id(tensor)) if tensor is not None else None
                if name in tensors:
                    slots[key] = tensors[name]


def _dual(
    gradients: Sequence[Tensor], leaves: Sequence[Tensor], along: Tensor
) -> tuple[Tensor, ...]:
    """Gradients that know how they change where w moves `along`: by the Hessian times that, exact.

    It is the gradient of g · along, so that nothing of a model need have a forward derivative.
    Pearlmutter 1994, "Fast exact multiplication by the Hessian".
    """
    ways = along.split([leaf.numel() // len(along) for leaf in leaves], 1)
    pairs = [(g, way.view_as(g)) for g, way in zip(gradients, ways, strict=True) if g.requires_grad]
    if not pairs:  # of a loss that is linear in w
        return tuple(make_dual(g, torch.zeros_like(g)) for g in gradients)
    curved, ways = zip(*pairs, strict=True)
    changes = torch.autograd.grad(curved, leaves, ways, materialize_grads=True)
    return tuple(make_dual(g.detach(), c) for g, c in zip(gradients, changes, strict=True))


def _ensembles(nets: Callable[[Tensor], Tensor], k: int, x: Tensor) -> Tensor:
    """(R, B, *inputs) -> (R, B, k, *outputs), given the forward pass of R · k nets."""
    x = x[:, None].expand(-1, k, *x.shape[1:]).flatten(0, 1)  # (R · k, B, *inputs)
    return nets(x).unflatten(0, (-1, k)).transpose(1, 2)


def _vmapped(net: nn.Module, leaves: Values, buffers: Values) -> Callable[[Tensor], Tensor]:
    """Any net's forward pass with a leading axis R, from its leaves and buffers (R, …)."""

    def one(leaves: Values, buffers: Values, x: Tensor) -> Tensor:
        return functional_call(net, {**leaves, **buffers}, (x,))

    return lambda x: vmap(one)(leaves, buffers, x)


def _dense(model: nn.Module, values: Values) -> Callable[[Tensor], Tensor] | None:
    """A dense net's forward pass with a leading axis R, layer by layer, from its `values` (R, …).

    None where the model has a layer that is not known here.
    """
    steps: list[Callable[[Tensor], Tensor]] = []
    for name, layer in model.named_children() if type(model) is nn.Sequential else [("", model)]:
        own = {
            key.rpartition(".")[2]: v for key, v in values.items() if key.rpartition(".")[0] == name
        }
        if type(layer) is nn.Flatten:
            steps.append(lambda x: x.flatten(2))
        elif type(layer) is nn.Linear:
            steps.append(partial(_linear, **own))
        elif type(layer) is nn.BatchNorm1d and layer.affine and layer.momentum is not None:
            steps.append(partial(_batch_norm, layer, **own))
        elif isinstance(layer, Noisy):
            _replace(layer, own)  # draws for all members at once
            steps.append(layer)
        elif type(layer) in _ELEMENTWISE and not getattr(layer, "inplace", False):
            steps.append(layer)
        else:
            return None

    def forward(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return forward


def _batch_norm(
    layer: nn.BatchNorm1d,
    x: Tensor,  # (R, B, features)
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    num_batches_tracked: Tensor | None = None,
) -> Tensor:
    """Batch normalization of R models is that of one model with R times as many features."""
    members, batch, features = x.shape
    if layer.training and num_batches_tracked is not None:
        num_batches_tracked += 1
    mean, var = (None if v is None else v.view(-1) for v in (running_mean, running_var))
    x = x.transpose(0, 1).reshape(batch, members * features)
    weight, bias = weight.flatten(), bias.flatten()
    if layer.training and parallel.present():
        y = norms.over_ranks(x, mean, var, weight, bias, layer.momentum, layer.eps)
    else:
        use_batch = layer.training or mean is None
        y = nn.functional.batch_norm(
            x, mean, var, weight, bias, use_batch, layer.momentum, layer.eps
        )
    return y.view(batch, members, features).transpose(0, 1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, B, n_in) -> (R, B, n_out) with weights (R, n_out, n_in) and biases (R, n_out)."""
    if bias is None:
        bias = weight.new_zeros(weight.shape[:2])
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), bias.to(kind)
    return _Linear.apply(x, weight, bias)


class _Linear(torch.autograd.Function):
    """Linear layers of all members as batched products.

    Its backward multiplies in the order of torch's own linear layer (baddbmm's own backward
    transposes the product), so that on a CPU members of the usual widths equal their solo runs to
    the last bit. Products with a narrow side go through other kernels and agree to rounding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        to_x = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        return to_x, torch.bmm(gradient.mT, x), gradient.sum(1)
