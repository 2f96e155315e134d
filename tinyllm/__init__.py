"""A small language model, trained from scratch by a pipeline that anybody can rerun."""
