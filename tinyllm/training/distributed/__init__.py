"""Several processes that train one model: DDP and FSDP, and how they are started."""
