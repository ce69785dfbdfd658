"""A miniature of RAVDESS as it is downloaded: clips with sound, wav files, landmark tables. Few, small and short."""

import csv

import numpy as np
from raw_media import write_video, write_wav

SECONDS, RATE = 0.8, 44100


def name(actor, emotion=1, intensity=1, statement=1, repetition=1, modality=1, channel=1):
    """The seven fields."""
    return "-".join(f"{n:02}" for n in (modality, channel, emotion, intensity, statement, repetition, actor))


def tone(emotion, seconds=SECONDS):
    """(time,) samples whose pitch tells the emotion."""
    return 0.4 * np.sin(2 * np.pi * 200 * emotion * np.arange(round(seconds * RATE)) / RATE)


def write_clip(file, emotion=1, frames=8, sound=True):
    """64 x 48, grey with a square at (20..40, 10..30), which the landmarks frame; its colour tells the emotion."""
    pictures = np.full((frames, 48, 64, 3), 96, np.uint8)
    pictures[:, 10:30, 20:40] = [28 * emotion, 255 - 28 * emotion, 40]
    write_video(file, pictures, rate=10, sound=(tone(emotion, frames / 10), RATE) if sound else None)


def write_landmarks(file, frames=8, rate=10, box=(20, 10, 40, 30)):
    """An OpenFace table with the columns that RAVDESS's have around the 68 points; the points lie on the box's edge."""
    left, top, right, bottom = box
    x = np.linspace(left, right, 68)
    y = np.where(np.arange(68) % 2, top, bottom)
    header = ["frame", " face_id", " timestamp", " confidence", " success"]
    header += [f" {axis}_{n}" for axis in "xy" for n in range(68)] + [" AU01_r"]
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(header)
        table.writerows([n + 1, 0, f"{n / rate:.3f}", 0.98, 1, *x.round(1), *y.round(1), 0.0] for n in range(frames))


def write_raw_ravdess(root, actors=(1, 2), emotions=(1, 3), modalities=(1,), landmarks=True, frames=8):
    """`Actor_01/01-01-01-01-01-01-01.mp4` and so on; landmarks in `FacialTracking/`. Gives the clips' files."""
    files = []
    for actor in actors:
        folder = root / f"Actor_{actor:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for emotion in emotions:
            for modality in modalities:
                file = folder / f"{name(actor, emotion, modality=modality)}{'.wav' if modality == 3 else '.mp4'}"
                if modality == 3:
                    write_wav(file, tone(emotion, frames / 10), RATE)
                else:
                    write_clip(file, emotion, frames, sound=modality == 1)
                files.append(file)
            if landmarks:
                (root / "FacialTracking").mkdir(exist_ok=True)
                write_landmarks(root / "FacialTracking" / f"{name(actor, emotion)}.csv", frames)
    return files
