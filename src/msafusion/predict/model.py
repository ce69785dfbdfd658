"""A trained network with all that leads from raw files to its prediction."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from msafusion.attach import FusedNetwork
from msafusion.checkpoints import ModelError, read_model
from msafusion.media import Extractor, extractor_from
from msafusion.networks import plan_from
from msafusion.predict.prediction import Prediction, StreamPart, WindowPrediction
from msafusion.predict.recording import Recording, Window, read_windows
from msafusion.preprocessing import DataError, Preprocessing, Windows, preprocessing_from

Piece = tuple[int, float | None, float | None, dict[str, Tensor]]
"""Number of the recording, start and end (s), one sample's inputs by stream (with a batch axis of one)."""


@dataclass(frozen=True)
class TrainedModel:
    """A network with its preprocessing and classes.

    Attributes:
        network: in eval mode; takes a batch as the preprocessing gives it.
        preprocessing: from a raw recording ({stream: (time, channels)} for signals, to a batch of its windows).
        classes: names of the outputs; none: the output is a value.
        extraction: stream -> how it is read from raw files; empty: recordings come as arrays.
        seconds: usual duration of a recording; None: unknown.
    """

    network: FusedNetwork
    preprocessing: Preprocessing
    classes: list[str]
    extraction: Mapping[str, Extractor] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def streams(self) -> list[str]:
        """Names of the streams."""
        return list(self.preprocessing.num_channels())

    @torch.inference_mode()
    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> Float[Tensor, "windows outputs"]:
        """Class probabilities (or values) of each window of one recording as arrays; a stream may be absent.

        Raises:
            DataError: the recording does not fit the preprocessing.
        """
        return self._run(self.preprocessing(recording))

    def predict(self, source: str | Path | Mapping[str, str | Path]) -> Prediction:
        """What the model says about a raw recording: a file of any duration, or {stream: file}.

        Raises:
            DataError: a file is missing or broken, or holds nothing that the model takes.
        """
        if isinstance(source, Mapping):
            recording = Recording(
                ", ".join(str(file) for file in source.values()), {name: Path(file) for name, file in source.items()}
            )
            recording = self.with_warnings(recording)
        else:
            recording = Recording.of_file(Path(source), self.extraction, self.streams)
        return next(self.predictions([(recording, *read_windows(recording, self.extraction, self.seconds))]))

    def with_warnings(self, recording: Recording) -> Recording:
        """A recording by streams, with a warning for each stream that it lacks.

        Raises:
            DataError: it names a stream that the model does not have.
        """
        if unknown := [name for name in recording.files if name not in self.streams]:
            raise DataError(f"unknown stream '{unknown[0]}', expected {', '.join(self.streams)}; rename it.")
        lacking = tuple(f"no {name}: no file is given for it" for name in self.streams if name not in recording.files)
        return Recording(recording.name, recording.files, recording.companions, lacking)

    def predictions(
        self, read: Iterable[tuple[Recording, Sequence[Window], Sequence[str]]], batch_size: int = 16
    ) -> Iterator[Prediction]:
        """Predictions of recordings in their order.

        Args:
            read: recordings with their windows and warnings, as `read_windows` gives them.
            batch_size: windows that run together, of one recording or of several.

        Raises:
            DataError: a window does not fit the preprocessing.
        """
        waiting: list[tuple[Recording, Sequence[str]]] = []
        pieces: list[Piece] = []
        for recording, windows, warnings in read:
            number = len(waiting)
            waiting.append((recording, warnings))
            for window in windows:
                pieces += self._pieces(number, window)
            if len(pieces) >= batch_size:
                yield from self._finished(waiting, pieces, batch_size)
                waiting, pieces = [], []
        yield from self._finished(waiting, pieces, batch_size)

    def _pieces(self, number: int, window: Window) -> Iterator[Piece]:
        inputs = self.preprocessing(window.arrays)
        count = len(next(iter(inputs.values())))
        for index in range(count):
            start = end = None
            if window.span is not None and window.span.seconds is not None:
                start, end = window.span.start, window.span.start + window.span.seconds
            elif isinstance(self.preprocessing, Windows):
                start = index * self.preprocessing.hop / self.preprocessing.rate
                end = start + self.preprocessing.steps / self.preprocessing.rate
            yield number, start, end, {name: values[index : index + 1] for name, values in inputs.items()}

    @torch.inference_mode()
    def _finished(
        self, waiting: Sequence[tuple[Recording, Sequence[str]]], pieces: Sequence[Piece], batch_size: int
    ) -> Iterator[Prediction]:
        """Run windows of the same streams and shapes together, and put them together by recording."""
        buckets: dict[tuple[tuple[str, torch.Size], ...], list[int]] = defaultdict(list)
        for index, (*_, inputs) in enumerate(pieces):
            buckets[tuple((name, values.shape) for name, values in inputs.items())].append(index)
        results: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
        for indices in buckets.values():
            for first in range(0, len(indices), batch_size):
                some = indices[first : first + batch_size]
                batch = {name: torch.cat([pieces[index][3][name] for index in some]) for name in pieces[some[0]][3]}
                full = self._run(batch)
                without = {
                    name: self._run({other: values for other, values in batch.items() if other != name})
                    for name in (batch if len(batch) > 1 else ())
                }
                for row, index in enumerate(some):
                    results[index] = full[row], {name: outputs[row] for name, outputs in without.items()}
        for number, (recording, warnings) in enumerate(waiting):
            mine = [index for index, piece in enumerate(pieces) if piece[0] == number]
            yield self._prediction(recording, warnings, [pieces[i] for i in mine], [results[i] for i in mine])

    def _prediction(
        self,
        recording: Recording,
        warnings: Sequence[str],
        pieces: Sequence[Piece],
        results: Sequence[tuple[Tensor, dict[str, Tensor]]],
    ) -> Prediction:
        mean = torch.stack([full for full, _ in results]).mean(dim=0)
        index = int(mean.argmax()) if self.classes else 0
        streams = {}
        for name in self.streams:
            losses = [float(full[index] - without[name][index]) for full, without in results if name in without]
            present = any(name in inputs for *_, inputs in pieces)
            streams[name] = StreamPart(present, sum(losses) / len(losses) if losses else None)
        timeline = [
            WindowPrediction(start, end, *self._said(full))
            for (_, start, end, _), (full, _) in zip(pieces, results, strict=True)
        ]
        label, value, probabilities = self._said(mean)
        return Prediction(recording.name, label, value, probabilities, streams, list(warnings), timeline)

    def _said(self, output: Tensor) -> tuple[str | None, float | None, dict[str, float]]:
        if not self.classes:
            return None, float(output[0]), {}
        probabilities = dict(zip(self.classes, output.tolist(), strict=True))
        return self.classes[int(output.argmax())], None, probabilities

    def _run(self, batch: Mapping[str, Tensor]) -> Tensor:
        device = next(self.network.parameters()).device
        outputs = self.network({name: values.to(device) for name, values in batch.items()}).float()
        return (torch.softmax(outputs, dim=1) if self.classes else outputs).cpu()


def load(run: str | Path) -> TrainedModel:
    """The model of a training run (its folder, or the `model` folder inside).

    Raises:
        ModelError: there is no model, or its files are broken or do not fit this version.
    """
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    config, state = read_model(folder)
    if "stream" in config:
        raise ModelError(
            f"'{folder}' holds the network of the stream '{config['stream']}' alone, expected a whole run; give the "
            "run's folder, or read these weights by checkpoints.load_pretrained."
        )
    try:
        preprocessing = preprocessing_from(config["preprocessing"])
        network = plan_from(config["network"]).build(preprocessing.num_channels(), len(config["classes"]) or 1)
        network.load_state_dict(state)
        extraction = config.get("extraction", {})
        readers = {name: extractor_from(saved) for name, saved in extraction.get("streams", {}).items()}
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the model in '{folder}' does not fit this version of msafusion (made by "
            f"{config.get('msafusion', 'an unknown one')}): {' '.join(str(error).split())[:300]}; "
            "use that version, or train again."
        ) from error
    return TrainedModel(network.eval(), preprocessing, config["classes"], readers, extraction.get("seconds"))
