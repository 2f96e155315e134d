"""Training one model with several processes: DDP, FSDP and launching."""
