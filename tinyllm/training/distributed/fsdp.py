"""A model sharded over the processes: PyTorch's FSDP2."""

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.training.distributed.ddp import Group


class FSDP(Group):
    """Each rank holds a shard of every weight, of its gradient and of its optimizer state.

    A block's weights are gathered only while it computes. Gradients are summed at every
    micro-batch: keeping them until the last would need all the memory that sharding saves.
    """

    def share_model(self, model: Model, device: str) -> None:
        mesh = init_device_mesh(device, (self.size,))
        for module in (*model.blocks, model):
            fully_shard(module, mesh=mesh)
            assert isinstance(module, FSDPModule)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no mean
        for method in ("loss", "hidden"):
            register_fsdp_forward_method(model, method)
        model.to(device)  # moves what is not sharded

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor) or tensor.shape != like.shape:
            return tensor
        mesh = like.device_mesh
        full = tensor.to(mesh.device_type)
        return distribute_tensor(full, mesh, like.placements, src_data_rank=None)

    def release(self, model: Model) -> None:
        assert isinstance(model, FSDPModule)
        model.reshard()

    def whole_model(self, model: Model) -> Model:
        with torch.device("meta"):
            whole = TinyLLM(model.config)
        weights = {name: self.whole(weight).cpu() for name, weight in model.state_dict().items()}
        whole.load_state_dict(weights, assign=True)
        return whole
