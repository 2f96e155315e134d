"""The model card: a page about a model, in the form that the Hugging Face Hub reads."""
