"""A miniature of NTU RGB+D as it is unpacked: real .skeleton text, real .avi; the action shows in both."""

import numpy as np
from raw_media import write_video


def write_skeleton(path, frames):
    """Per frame {id of a body: (25, 3) metres}, in the data set's own text format."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for name, joints in bodies.items():
            lines += [f"{name} 0 1 1 0 0 0 0.0102 -0.1187 2", str(len(joints))]
            for x, y, z in joints:
                depth, colour = (256 + 365 * x / z, 212 - 365 * y / z), (960 + 1060 * x / z, 540 - 1060 * y / z)
                shown = " ".join(f"{value:.7g}" for value in (x, y, z, *depth, *colour))
                lines.append(f"{shown} -0.21 0.03 0.97 -0.06 2")
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


def moving_body(num_frames, speed=0.0, centre=(0.1, 0.2, 3.0), seed=0):
    """(num_frames, 25, 3): the right hand (joints 12, 24, 25) moves by `speed` metres a second."""
    joints = np.asarray(centre) + np.random.default_rng(seed).uniform(-0.5, 0.5, (25, 3))
    joints = np.repeat(joints[None], num_frames, axis=0)
    joints[:, [11, 23, 24], 1] += speed * np.arange(num_frames)[:, None] / 30
    return joints


def write_raw_ntu(root, performers=(1, 2, 3), actions=(1, 50), cameras=(1, 2), frames=10, size=(64, 36)):
    """All performers do all actions before all cameras; from action 50 on there are two bodies.

    Returns:
        The samples' names.
    """
    videos, skeletons = root / "nturgbd_rgb", root / "nturgbd_skeletons"
    for folder in (videos, skeletons):
        folder.mkdir(parents=True)
    names = []
    for performer in performers:
        for action in actions:
            for camera in cameras:
                name = f"S001C{camera:03d}P{performer:03d}R001A{action:03d}"
                grey = np.full((frames, size[1], size[0], 3), 40 + 2 * action, np.uint8)
                write_video(videos / f"{name}_rgb.avi", grey, rate=30)
                bodies = {"72057594037931101": moving_body(frames, action / 30, seed=performer)}
                if action >= 50:
                    bodies["72057594037931692"] = moving_body(frames, 0.1, (0.9, 0.2, 3.1), seed=performer + 100)
                per_frame = [{body: joints[n] for body, joints in bodies.items()} for n in range(frames)]
                write_skeleton(skeletons / f"{name}.skeleton", per_frame)
                names.append(name)
    return sorted(names)
