"""Kinect skeletons in the text format of NTU RGB+D (github.com/shahroudy/NTURGB-D, Matlab/read_skeleton_file.m).

The file: number of frames; per frame the number of bodies; per body a line of 10 numbers (the first is its id), the
number of joints (25), then a line of 12 numbers a joint, of which the first three are x, y and z in metres.
"""

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span, StreamMissing
from msafusion.data.media.timeline import part, resample
from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError
from msafusion.files.reading import reading
from msafusion.streams import check_count

NUM_JOINTS, NUM_BODIES, FRAME_RATE = 25, 2, 30.0
SPINE_MIDDLE = 1
"""Joint 2 of the data set's page, counted from 0."""
NUMBERS_OF_BODY, NUMBERS_OF_JOINT = 10, 12
MAX_DIGITS = 9
"""Of a count; longer ones are damage, and Python turns no word of thousands of digits into an integer."""
MAX_GAP = 30
"""Frames after which a body with a new id is another one."""
NEAREST, FASTEST = 0.3, 0.1
"""Metres, and metres a frame, that a body can have moved when it comes back under a new id."""
STILL = 0.005
"""Metres of standard deviation below which a body does not move, where another moves ten times as much."""
FARTHEST = 1000.0
"""Metres; a Kinect sees no farther than 8, and larger numbers are damage."""


def read_skeleton(file: Path) -> list[dict[str, np.ndarray]]:
    """All frames of a .skeleton file: per frame {id of a body: float32 (25, 3) metres}, in the file's order.

    Raises:
        DataError: no such file, no text, a wrong count, a number that is none or not finite, or the text ends early or
            goes on; one line with the file and the number of its line.
    """
    with reading(file, "a .skeleton file", "download it again"):
        lines = file.read_text(encoding="ascii").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    text = _Lines(file, lines)
    frames = []
    for _ in range(text.count("the number of frames")):
        frame: dict[str, np.ndarray] = {}
        for _ in range(text.count("the number of bodies")):
            name = text.words(NUMBERS_OF_BODY, "of a body")[0]
            if name in frame:
                raise text.error(f"the body {name} a second time in one frame", "each body once")
            if (joints := text.count("the number of joints")) != NUM_JOINTS:
                raise text.error(f"{joints} joints", f"{NUM_JOINTS} of each body")
            frame[name] = text.joints()
        frames.append(frame)
    if text.next < len(lines):
        text.next += 1
        raise text.error("more lines", f"the end after {len(frames)} frames")
    return frames


class _Lines:
    """The lines of a file, taken one after the other."""

    def __init__(self, file: Path, lines: list[str]) -> None:
        self.file, self.lines, self.next = file, lines, 0

    def words(self, number: int, what: str) -> list[str]:
        if self.next == len(self.lines):
            self.next += 1
            raise self.error("the end of the file", f"{number} numbers {what}")
        words = self.lines[self.next].split()
        self.next += 1
        if len(words) != number:
            raise self.error(f"{len(words)} words", f"{number} numbers {what}")
        return words

    def count(self, what: str) -> int:
        word = self.words(1, f"({what})")[0]
        if not (word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS):
            raise self.error(f"'{word[:20]}'", what)
        return int(word)

    def joints(self) -> np.ndarray:
        """Positions of one body: float32 (25, 3) metres."""
        positions = []
        for line in self.lines[self.next : self.next + NUM_JOINTS]:
            self.next += 1
            words = line.split()
            if len(words) != NUMBERS_OF_JOINT:
                raise self.error(f"{len(words)} words", f"{NUMBERS_OF_JOINT} numbers of a joint")
            try:
                position = [float(word) for word in words[:3]]
                if any("_" in word for word in words[:3]):  # which Python takes for numbers
                    raise ValueError
            except ValueError:
                raise self.error("a word", "x, y and z of a joint") from None
            if not all(abs(number) < FARTHEST for number in position):  # nor is NaN
                raise self.error(f"a joint at {position}", "x, y and z in metres")
            positions.append(position)
        if len(positions) < NUM_JOINTS:
            self.next += 1
            raise self.error("the end of the file", f"{NUM_JOINTS} joints of a body")
        return np.array(positions, np.float32)

    def error(self, got: str, expected: str) -> DataError:
        return DataError(f"'{self.file}', line {self.next}: {got}, expected {expected}; download it again.")


@dataclass(frozen=True)
class NtuSkeleton(Extractor):
    """Two bodies, metres from the middle of the first one's spine in each frame: (3, num_steps, 25, 2) float32.

    Bodies are followed by their ids; one that comes where another has just gone is the same under a new id. Of more
    than two, those that move most stay (the standard deviation of their joints over time), in the file's order. A
    ghost, seen in less than half as many frames as another body or not moving while another does, comes behind it, so
    that it is never the origin. Frames in which a body is lost are bridged linearly; before it comes and after it has
    gone it is zero. Notes say what was joined, left out or put behind.

    Attributes:
        num_steps: steps in time, resampled linearly from the frames of the span (30 a second).
        reference: as the published weights expect it: a body that is absent is zero before the origin is taken off,
            hence minus the origin.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from msafusion.data.media import NtuSkeleton
        >>> body = ["1", "72057594037931101 0 1 1 0 0 0 0.01 -0.1 2", "25", *["0.1 0.2 3.0 0 0 0 0 0 0 0 0 2"] * 25]
        >>> with TemporaryDirectory() as folder:
        ...     np.savetxt(f"{folder}/a.skeleton", ["2", *body, *body], fmt="%s")  # two frames of one body
        ...     NtuSkeleton(num_steps=8)(Path(folder, "a.skeleton")).values.shape
        (3, 8, 25, 2)
    """

    suffixes: ClassVar = (".skeleton",)
    num_steps: int = 32
    reference: bool = False

    def __post_init__(self) -> None:
        check_count("num_steps", self.num_steps)

    @property
    def layout(self) -> Layout:
        """(3, num_steps, 25, 2)."""
        return "map"

    @property
    def channels(self) -> int:
        """x, y and z."""
        return 3

    def probe(self, file: Path) -> float:
        """Seconds; the whole text is read, as it can break anywhere."""
        frames = read_skeleton(file)
        _require_body(file, frames)
        return len(frames) / FRAME_RATE

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """The bodies; StreamMissing where no frame of the span has one."""
        frames, notes = _joined(read_skeleton(file))
        _require_body(file, frames)
        ghosts = _ghosts(frames)
        frames = frames[part(span, len(frames), FRAME_RATE, file)]
        _require_body(file, frames)
        bodies = list(dict.fromkeys(name for frame in frames for name in frame))
        kept = bodies
        if len(bodies) > NUM_BODIES:
            most = sorted(bodies, key=lambda name: (name in ghosts, -_motion(frames, name)))
            kept = [name for name in bodies if name in most[:NUM_BODIES]]
            notes.append(f"{len(bodies)} bodies, kept the {NUM_BODIES} that move most")
        if kept[0] in ghosts and len(kept) > 1 and kept[1] not in ghosts:
            notes.append(f"body {kept[0]} comes first but is seen shortly or does not move, put behind")
            kept = kept[::-1]
        present = np.array([[name in frame for name in kept] for frame in frames])
        absent = np.zeros((NUM_JOINTS, 3), np.float32)
        positions = np.array([[frame.get(name, absent) for name in kept] for frame in frames])
        if empty := int((~present.any(axis=1)).sum()):
            notes.append(f"{empty} of {len(frames)} frames have no body")
        values = self._as_reference(positions) if self.reference else self._centred(positions, present)
        return Extracted(np.ascontiguousarray(values.transpose(3, 0, 2, 1)), notes)

    def _as_reference(self, positions: np.ndarray) -> np.ndarray:
        both = np.pad(positions, [(0, 0), (0, NUM_BODIES - positions.shape[1]), (0, 0), (0, 0)])
        return resample(both - both[:, :1, SPINE_MIDDLE : SPINE_MIDDLE + 1], self.num_steps)

    def _centred(self, positions: np.ndarray, present: np.ndarray) -> np.ndarray:
        """(time, bodies, 25, 3) to (num_steps, 2, 25, 3)."""
        steps = np.arange(len(positions))
        bridged, there = np.empty_like(positions), np.empty_like(present)
        for body in range(positions.shape[1]):
            seen = np.flatnonzero(present[:, body])
            there[:, body] = (steps >= seen[0]) & (steps <= seen[-1])
            known = positions[seen, body].reshape(len(seen), -1)
            held = np.stack([np.interp(steps, seen, column) for column in known.T], axis=1)
            bridged[:, body] = held.reshape(-1, NUM_JOINTS, 3)
        values = resample(bridged - bridged[:, :1, SPINE_MIDDLE : SPINE_MIDDLE + 1], self.num_steps)
        nearest = np.linspace(0, len(steps) - 1, self.num_steps).round().astype(int)
        values[~there[nearest]] = 0
        return np.pad(values, [(0, 0), (0, NUM_BODIES - values.shape[1]), (0, 0), (0, 0)])


def _require_body(file: Path, frames: list[dict[str, np.ndarray]]) -> None:
    if not any(frames):
        raise StreamMissing(
            f"'{file}' has no body in any of {len(frames)} frames, expected one or two; leave the sample out (the "
            "official list of bad skeletons names such ones)."
        )


Skeletons = list[dict[str, np.ndarray]]


def _joined(frames: Skeletons) -> tuple[Skeletons, list[str]]:
    """The frames, with one id for a body that goes and comes back at the same place under another, and notes."""
    name_of: dict[str, str] = {}
    notes = []
    seen: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        for name in frame:
            seen.setdefault(name, []).append(number)
    pairs = []
    for gone, came in itertools.permutations(seen, 2):
        gap = seen[came][0] - seen[gone][-1]
        if 0 < gap <= MAX_GAP:
            away = np.linalg.norm((frames[seen[came][0]][came] - frames[seen[gone][-1]][gone]).mean(axis=0))
            if away <= NEAREST + FASTEST * (gap - 1):
                pairs.append((float(away), gone, came))
    followed: set[str] = set()
    for _, gone, came in sorted(pairs):
        if gone not in followed and came not in name_of:
            followed.add(gone)
            name_of[came] = gone
            notes.append(f"body {came} goes on where body {gone} ends, taken for one")

    def first(name: str) -> str:
        while name in name_of:
            name = name_of[name]
        return name

    return [{first(name): joints for name, joints in frame.items()} for frame in frames], notes


def _ghosts(frames: Skeletons) -> set[str]:
    """Bodies that are seen shortly, or stand still, beside another that is not and does not."""
    seen = Counter(name for frame in frames for name in frame)
    moves = {name: _motion(frames, name) for name in seen}
    longest = max(seen.values(), default=0)
    most = max((moves[name] for name in seen if 2 * seen[name] >= longest), default=0.0)
    return {
        name
        for name in seen
        if 2 * seen[name] < longest or (moves[name] < STILL * 3 * NUM_JOINTS and 10 * moves[name] < most)
    }


def _motion(frames: Skeletons, name: str) -> float:
    """Standard deviations over time of all coordinates of a body, added up."""
    return float(np.std([frame[name] for frame in frames if name in frame], axis=0).sum())
