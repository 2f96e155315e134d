"""The file that MLflow runs to load the model ("models from code"): no pickle is involved."""

from mlflow.models import set_model

from tinyllm.serving.pyfunc import TextModel

set_model(TextModel())
