"""A trained model in Python: `msafusion.load(run)`, called with arrays, or `predict(path)` with raw files."""

from msafusion.predict.model import TrainedModel, load
from msafusion.predict.prediction import Failed, Prediction, StreamPart, WindowPrediction
from msafusion.predict.recording import Recording

__all__ = ["Failed", "Prediction", "Recording", "StreamPart", "TrainedModel", "WindowPrediction", "load"]
