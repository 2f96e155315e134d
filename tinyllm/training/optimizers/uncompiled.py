"""torch's optimizers without the import of torch's compiler at the first step.

In torch 2.13, `step` and the methods that touch the state import the compiler to exclude
themselves from compilation, which takes as long as importing torch (1.0 to 1.5 s).
"""

from inspect import unwrap

import torch
from torch.optim import Optimizer


class Uncompiled:
    """A mixin for any optimizer; list it before torch's class among the bases."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class AdamW(Uncompiled, torch.optim.AdamW):
    """`torch.optim.AdamW`."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


class Adam(Uncompiled, torch.optim.Adam):
    """`torch.optim.Adam`."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class SGD(Uncompiled, torch.optim.SGD):
    """`torch.optim.SGD`."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))
