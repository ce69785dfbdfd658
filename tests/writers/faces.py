"""Drawn faces that the detector takes for real ones, and landmark tables as OpenFace writes them."""

import numpy as np

OVAL = (0.26, 0.2, 0.74, 0.84)
"""Where a drawn face lies in its square: left, top, right, bottom, as shares of the side."""


def drawn_face(side=160):
    """uint8 (side, side, 3): a head on a plain ground."""
    from PIL import Image, ImageDraw, ImageFilter

    image = Image.new("RGB", (200, 200), (110, 130, 150))
    draw = ImageDraw.Draw(image)
    skin, shade, hair = (224, 180, 150), (170, 135, 110), (60, 40, 30)
    draw.rectangle((72, 150, 128, 200), fill=shade)
    draw.ellipse((44, 18, 156, 160), fill=hair)
    draw.ellipse((54, 40, 146, 166), fill=skin)
    for x in (81, 119):
        draw.ellipse((x - 10, 82, x + 10, 94), fill=(245, 245, 245))
        draw.ellipse((x - 5, 83, x + 5, 93), fill=(40, 30, 25))
        draw.line((x - 13, 73, x, 69, x + 13, 73), fill=hair, width=5)
    draw.line((100, 90, 94, 118, 106, 118), fill=shade, width=3)
    draw.ellipse((80, 130, 120, 142), fill=(170, 70, 70))
    draw.line((80, 136, 120, 136), fill=(110, 30, 30), width=2)
    image = image.filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def face_frames(corners, side=120, height=144, width=176):
    """Frames uint8 (n, height, width, 3) with a drawn face at each of `corners` (n, faces, 2): left and top; NaN: none.

    side: of the faces, one number or one for each.
    """
    corners = np.asarray(corners, float)
    sides = np.broadcast_to(side, corners.shape[1:2])
    frames = np.full((len(corners), height, width, 3), (110, 130, 150), np.uint8)
    for frame, places in zip(frames, corners, strict=True):
        for (left, top), one in zip(places, sides, strict=True):
            if np.isfinite(left):
                frame[round(top) : round(top) + one, round(left) : round(left) + one] = drawn_face(int(one))
    return frames


def face_box(corner, side):
    """(4,): the box of a face that `face_frames` drew."""
    return np.array([*corner, *corner]) + np.array(OVAL) * side


def write_landmarks(path, stamps, boxes, success=None):
    """A FacialTracking table: 68 points on the border of each box (left, top, right, bottom), a row a time stamp."""
    names = ["frame", " timestamp", " confidence", " success"]
    names += [f" X_{i}" for i in range(68)] + [f" x_{i}" for i in range(68)] + [f" y_{i}" for i in range(68)]
    lines = [",".join(names)]
    turn = np.linspace(0, 2 * np.pi, 69)[:-1]
    success = np.ones(len(stamps)) if success is None else success
    for number, (stamp, box, seen) in enumerate(zip(stamps, boxes, success, strict=True), start=1):
        left, top, right, bottom = box
        x = (left + right) / 2 + (right - left) / 2 * np.cos(turn)
        y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(turn)
        points = np.concatenate([np.full(68, 7.0), x, y])
        lines.append(",".join([str(number), f"{stamp:.3f}", "0.98", str(int(seen)), *(f"{p:.3f}" for p in points)]))
    path.write_text("\n".join(lines) + "\n")
    return path
