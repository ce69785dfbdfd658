"""A miniature of UTD-MHAD as it is unpacked: real MATLAB 5 files, real .avi; the action shows in every stream."""

import numpy as np
from raw_media import write_video


def write_raw_utd_mhad(
    root,
    actions=(1, 2),
    subjects=range(1, 9),
    trials=(1,),
    streams=("skeleton", "inertial"),
    frames=12,
    nested=False,
):
    """Sequences of `frames` (and up to 4 more) Kinect frames, the sensor 2.5 times as many; nested: Skeleton/Skeleton/.

    Returns:
        The samples' names.
    """
    from scipy.io import savemat

    random = np.random.default_rng(0)
    names = []
    for action in actions:
        for subject in subjects:
            for trial in trials:
                name, length = f"a{action}_s{subject}_t{trial}", frames + int(random.integers(0, 5))
                for stream in streams:
                    folder = root / {"rgb": "RGB"}.get(stream, stream.capitalize())
                    folder = folder / folder.name if nested else folder
                    folder.mkdir(parents=True, exist_ok=True)
                    if stream == "skeleton":
                        joints = random.normal(0, 0.3, (20, 3, 1)) + np.array([0, 0, 2.9])[:, None]
                        joints = np.repeat(joints, length, axis=2)
                        joints[:, 0] += 0.02 * np.arange(length)  # the body goes through the room
                        joints[10:12, 1] += 0.05 * action * np.arange(length)
                        savemat(folder / f"{name}_skeleton.mat", {"d_skel": joints}, do_compression=True)
                    elif stream == "inertial":
                        readings = random.normal(0, 0.05, (int(2.5 * length), 6)) + [0, -1, 0, 0, 0, 0]
                        readings[:, 3] += 100 * action
                        savemat(folder / f"{name}_inertial.mat", {"d_iner": readings}, do_compression=True)
                    elif stream == "depth":
                        depth = np.zeros((240, 320, length), np.uint16)
                        depth[40:200, 120:200] = 2400 + 100 * action
                        savemat(folder / f"{name}_depth.mat", {"d_depth": depth}, do_compression=True)
                    else:
                        grey = np.full((length, 48, 64, 3), 60 * action, np.uint8)
                        write_video(folder / f"{name}_color.avi", grey, rate=15)
                names.append(name)
    return sorted(names)
