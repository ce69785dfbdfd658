"""Real recordings of a few frames: mp4, avi, mpg with sound, wav."""

import struct
from fractions import Fraction

import numpy as np

CODECS = {
    **dict.fromkeys((".mp4", ".mov", ".mkv"), ("libx264", "aac")),
    ".webm": ("libvpx", "libopus"),
    ".avi": ("mpeg4", "mp2"),
    ".mpg": ("mpeg1video", "mp2"),
    ".ts": ("mpeg1video", "mp2"),
}
TURNED = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""Clockwise turn -> a, b, c, d of the matrix in an mp4's track header: x' = a x + c y, y' = b x + d y."""


def grey_frames(levels, height=48, width=64):
    """uint8 (n, height, width, 3): one grey level a frame."""
    return np.broadcast_to(np.asarray(levels, np.uint8)[:, None, None, None], (len(levels), height, width, 3)).copy()


def write_video(path, frames, rate=25, sound=None, times=None, rotation=0, key_every=12, options=None, codec=None):
    """Frames uint8 (n, height, width, 3) RGB, or (n, 3) one colour a frame (64 x 48), to the format of the suffix.

    sound: (samples (time,) or (channels, time) in -1..1, rate); times: seconds of each frame, for a variable rate;
    rotation: clockwise turn that players must apply (90, 180, 270; mp4 only); key_every: frames between key frames.
    """
    import av

    frames = np.asarray(frames, np.uint8)
    if frames.ndim == 2:
        frames = np.broadcast_to(frames[:, None, None], (len(frames), 48, 64, 3))
    usual, sound_codec = CODECS[path.suffix]
    codec = codec or usual
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.codec_context.gop_size, video.codec_context.thread_count = key_every, 1
        if times is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        if codec == "libx264" and not options:
            video.options = {"preset": "ultrafast", "crf": "12"}
        track = _sound_track(container, sound_codec, sound) if sound is not None else None
        for number, values in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="rgb24")
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            frame.pts = number if times is None else round(1000 * times[number])
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if track is not None:
            _encode_sound(container, track, sound)
    if rotation:
        _turn(path, rotation)
    return path


def write_wav(path, samples, rate, codec="pcm_s16le"):
    """Samples (time,) or (channels, time) in -1..1, to the formats that PyAV knows by the suffix."""
    import av

    with av.open(str(path), "w") as container:
        _encode_sound(container, _sound_track(container, codec, (samples, rate)), (samples, rate))
    return path


def _sound_track(container, codec, sound):
    samples, rate = sound
    layout = {2: "stereo", 8: "7.1"}.get(len(np.atleast_2d(samples)), "mono")
    return container.add_stream(codec, rate=rate, layout=layout)


def _encode_sound(container, track, sound):
    import av

    samples, rate = np.atleast_2d(np.asarray(sound[0], np.float64)), sound[1]
    pcm = np.round(samples * 32768).clip(-32768, 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(pcm.T.reshape(1, -1), format="s16", layout=track.layout.name)
    frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    # encoders take their own number of samples at a time
    resampler = av.AudioResampler(track.format.name, track.layout.name, rate, track.codec_context.frame_size or None)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(track.encode(part))
    container.mux(track.encode(None))


def _turn(path, rotation):
    """Write the matrix of the first track header (ISO 14496-12, 8.3.2): what phones do that are held upright."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in TURNED[rotation])
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
