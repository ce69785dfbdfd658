"""A trained network with all that leads from raw files to its prediction."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from msafusion import plugins
from msafusion.attach import FusedNetwork
from msafusion.calibration import read_temperature
from msafusion.checkpoints import ModelError, read_model
from msafusion.data.extractors import extractor_from
from msafusion.data.media import Extractor
from msafusion.data.preprocessing import Preprocessing, Windows, preprocessing_from
from msafusion.failures import DataError, Failure, attempt
from msafusion.files.bounds import at_most, needed_for
from msafusion.networks import plan_from
from msafusion.predict.accumulator import PredictionAccumulator
from msafusion.predict.prediction import Failed, Prediction
from msafusion.predict.reading import Window, read_all
from msafusion.predict.recording import Recording

Piece = tuple[PredictionAccumulator, int, dict[str, Tensor]]
"""A recording, the number of one of its windows, and that one's inputs by stream (with a batch axis of one)."""


@dataclass(frozen=True)
class TrainedModel:
    """A network with its preprocessing and classes.

    Attributes:
        network: in eval mode; takes a batch as the preprocessing gives it.
        preprocessing: from a raw recording ({stream: (time, channels)} for signals, to a batch of its windows).
        classes: names of the outputs; none: the output is a value.
        extraction: stream -> how it is read from raw files; streams without come as arrays.
        seconds: usual duration of a recording; None: unknown.
        cpu_threads: that the network is worth on a CPU; None: all.
        temperature: what logits are divided by, so that probabilities are calibrated (see `fit_temperature`).

    Examples:
        >>> import numpy as np
        >>> from msafusion import TrainedModel
        >>> from msafusion.data.preprocessing import Windows
        >>> from msafusion.networks import SmallCNN
        >>> recording = {"accelerometer": np.random.randn(400, 3), "gyroscope": np.random.randn(400, 3)}
        >>> windows = Windows.fitted([recording], rate=50, steps=200, hop=100)
        >>> network = SmallCNN().build(windows.num_channels(), num_outputs=2).eval()
        >>> model = TrainedModel(network, windows, classes=["rest", "wave"])
        >>> model(recording).shape  # (windows, classes)
        torch.Size([3, 2])
    """

    network: FusedNetwork
    preprocessing: Preprocessing
    classes: list[str]
    extraction: Mapping[str, Extractor] = field(default_factory=dict)
    seconds: float | None = None
    cpu_threads: int | None = None
    temperature: float = 1.0

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
        return self._outputs(self.preprocessing(recording))

    def predict(self, source: str | Path | Mapping[str, str | Path]) -> Prediction:
        """What the model says about a raw recording.

        Args:
            source: a file of any duration, or {stream: file}; see `Recording`.

        Raises:
            DataError: a file is missing or broken, or holds nothing that the model takes.
        """
        if isinstance(source, Mapping):
            name = ", ".join(str(file) for file in source.values())
            files = {stream: Path(file) for stream, file in source.items()}
            recording = Recording.named(name, files, self.extraction, self.streams)
        else:
            recording = Recording.of_file(Path(source), self.extraction, self.streams)
        read = read_all([recording], self.extraction, self.seconds)
        result = next(self.predictions((recording, windows) for recording, _, windows in read))
        if isinstance(result, Failed):
            raise DataError(result.error)
        return result

    def predictions(
        self, read: Iterable[tuple[Recording | Failed, Iterable[Window | Failure]]], batch_size: int = 16
    ) -> Iterator[Prediction | Failed]:
        """Predictions of recordings in their order, each as soon as the windows that run with its last one are full.

        Args:
            read: recordings with their windows, which may be read when asked for, or why one cannot be read.
            batch_size: windows that run together, of one recording or of several.

        Raises:
            ValueError: a worker that reads died; what had been read by then is predicted first.
        """
        waiting: deque[PredictionAccumulator] = deque()
        pieces: list[Piece] = []
        ended: Exception | None = None
        try:
            for recording, windows in read:
                accumulator = self._started(recording)
                waiting.append(accumulator)
                for window in windows:
                    made = (
                        window
                        if isinstance(window, Failure)
                        else attempt(partial(self._pieces, accumulator, window), [accumulator.name])
                    )
                    if isinstance(made, Failure):
                        accumulator.failure = made
                        break
                    if accumulator.failure is not None:  # of the network
                        break
                    for number, inputs in made:
                        pieces.append((accumulator, number, inputs))
                        if len(pieces) >= batch_size:
                            self._run(pieces)
                            pieces = []
                accumulator.complete = True
                while waiting and waiting[0].done:
                    yield waiting.popleft().result(self.classes, self.streams)
        except Exception as error:
            ended = error
        self._run(pieces)
        for accumulator in waiting:
            if accumulator.complete:
                yield accumulator.result(self.classes, self.streams)
        if ended is not None:
            raise ended

    def _started(self, recording: Recording | Failed) -> PredictionAccumulator:
        if isinstance(recording, Failed):
            return PredictionAccumulator(recording.file, failure=recording.failure)
        accumulator = PredictionAccumulator(recording.name)
        accumulator.note(recording.warnings, None)
        return accumulator

    def _pieces(self, accumulator: PredictionAccumulator, window: Window) -> list[tuple[int, dict[str, Tensor]]]:
        """The inputs of the network for what was read, which the preprocessing may cut further, and their numbers."""
        span = window.span
        accumulator.note(window.warnings, None if span is None else span.start)
        if not window.arrays:
            return []
        inputs, pieces = self.preprocessing(window.arrays), []
        for index in range(len(next(iter(inputs.values())))):
            start = end = None
            if span is not None and span.seconds is not None:
                start, end = span.start, span.start + span.seconds
            elif isinstance(self.preprocessing, Windows):
                start = index * self.preprocessing.hop / self.preprocessing.rate
                end = start + self.preprocessing.steps / self.preprocessing.rate
            pieces.append((len(accumulator.windows), {name: part[index : index + 1] for name, part in inputs.items()}))
            accumulator.windows.append((start, end, frozenset(inputs)))
        return pieces

    def _run(self, pieces: Sequence[Piece]) -> None:
        """Run windows of the same streams and shapes together, and by themselves where they fail together."""
        buckets: dict[tuple[tuple[str, torch.Size], ...], list[Piece]] = defaultdict(list)
        for piece in pieces:
            if piece[0].failure is None:
                buckets[tuple((name, values.shape) for name, values in piece[2].items())].append(piece)
        for shapes, bucket in buckets.items():
            outcome = attempt(partial(self._contrasted, bucket, list(dict(shapes))))
            if not isinstance(outcome, Failure):
                full, without = outcome
                for row, (accumulator, number, _) in enumerate(bucket):
                    accumulator.outputs[number] = full[row], {name: outputs[row] for name, outputs in without.items()}
            elif len(bucket) > 1:  # memory may be enough for each
                for piece in bucket:
                    self._run([piece])
            else:
                accumulator = bucket[0][0]
                accumulator.failure = replace(outcome, line=f"'{accumulator.name}': {outcome.line}")

    def _contrasted(self, bucket: Sequence[Piece], names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs for some windows with all their streams, and with each one left out."""
        batch = {name: torch.cat([inputs[name] for *_, inputs in bucket]) for name in names}
        try:
            without = {
                name: self._outputs({other: values for other, values in batch.items() if other != name})
                for name in (batch if len(batch) > 1 else ())
            }
            return self._outputs(batch), without
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:
            given = ", ".join(f"{name} {tuple(values.shape[1:])}" for name, values in batch.items())
            raise DataError(
                f"the network does not take {given} ({' '.join(str(error).split())[:200]}); check the file."
            ) from error

    @torch.inference_mode()
    def _outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        device = next(self.network.parameters()).device
        outputs = self.network({name: values.to(device) for name, values in batch.items()}).float()
        return (torch.softmax(outputs / self.temperature, dim=1) if self.classes else outputs).cpu()


def load(run: str | Path, *, imports: Sequence[str] = ()) -> TrainedModel:
    """The model of a training run (its folder, or the `model` folder inside).

    Args:
        run: the folder. What it names is looked up among msafusion's own classes and yours; nothing is imported.
        imports: modules with classes of your own, such as "my_package.networks"; see `plugins`.

    Raises:
        ModelError: the folder holds no model, or its files are broken or do not fit this version.
        ValueError: the model needs modules that are not named, or one cannot be imported.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import msafusion
        >>> from msafusion.checkpoints import save_model
        >>> from msafusion.data.preprocessing import Windows
        >>> from msafusion.networks import SmallCNN
        >>> windows = Windows(50, steps=200, hop=100, mean={"motion": [0.0]}, std={"motion": [1.0]})
        >>> config = {"network": SmallCNN().as_dict(), "preprocessing": windows.as_dict(), "classes": ["rest", "wave"]}
        >>> with TemporaryDirectory() as run:  # as `msafusion train --out runs/x` leaves it
        ...     save_model(Path(run, "model"), SmallCNN().build(windows.num_channels(), 2), config)
        ...     model = msafusion.load(run)
        >>> model.streams, model.classes
        (['motion'], ['rest', 'wave'])
    """
    plugins.use(imports)
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    config, state = read_model(folder)
    plugins.check_allowed(config.get("imports"), f"the model in '{folder}'")
    if "stream" in config:
        raise ModelError(
            f"'{folder}' holds the network of the stream '{config['stream']}' alone, expected a whole run; give the "
            "run's folder, or read these weights by checkpoints.load_pretrained."
        )
    try:
        preprocessing = preprocessing_from(config["preprocessing"])
        plan = plan_from(config["network"])
        with at_most(needed_for(state), "as the weights need"):
            network = plan.build(preprocessing.num_channels(), len(config["classes"]) or 1)
        network.load_state_dict(state)
        temperature = read_temperature(config)
        extraction = config.get("extraction", {})
        streams = preprocessing.num_channels()  # the data set may have more than the model was trained on
        readers = {
            name: extractor_from(saved) for name, saved in extraction.get("streams", {}).items() if name in streams
        }
    except Exception as error:  # a foreign configuration makes classes and libraries raise whatever it leads them to
        raise ModelError(
            f"the model in '{folder}' does not fit this version of msafusion (made by "
            f"{config.get('msafusion', 'an unknown one')}): {' '.join(str(error).split())[:300]}; "
            "use that version, or train again."
        ) from error
    seconds = extraction.get("seconds")
    return TrainedModel(
        network.eval(), preprocessing, config["classes"], readers, seconds, plan.cpu_threads, temperature
    )
