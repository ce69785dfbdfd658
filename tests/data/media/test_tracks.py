import numpy as np

from msafusion.data.media.tracks import choose, fill_gaps, link, smooth


def box(left, side=10.0):
    return np.array([left, 0, left + side, side])


def test_boxes_are_linked_by_overlap_and_over_gaps():
    found = [[box(0), box(100)], [box(103), box(2)], [], [box(4)], [box(105), box(5), box(50)]]
    tracks = link(found)
    assert [{i: b[0] for i, b in track.items()} for track in tracks] == [
        {0: 0, 1: 2, 3: 4, 4: 5},
        {0: 100, 1: 103, 4: 105},
        {4: 50},
    ]


def test_the_better_overlap_wins_and_the_other_face_starts_a_track():
    tracks = link([[box(0)], [box(4), box(1)]])
    assert [sorted(track) for track in tracks] == [[0, 1], [1]]
    assert tracks[0][1][0] == 1


def test_the_face_seen_longest_is_taken():
    long, large = {i: box(0, 10) for i in range(10)}, {i: box(50, 30) for i in range(5)}
    track, choice = choose([large, long])
    assert track is long
    assert choice == "2 faces, took the one seen longest"


def test_the_largest_is_taken_of_faces_seen_about_as_long():
    small, large = {i: box(0, 10) for i in range(30)}, {i: box(50, 30) for i in range(28)}
    track, choice = choose([small, large])
    assert track is large
    assert choice == "2 faces, took the largest"


def test_a_face_in_a_few_frames_is_not_counted():
    only = {i: box(0) for i in range(10)}
    assert choose([only, {3: box(50, 40)}]) == (only, "")


def test_gaps_are_filled_linearly_and_held_at_the_ends():
    boxes = fill_gaps(np.array([box(0), box(4)]), np.array([1, 3]), np.arange(5))
    assert boxes[:, 0].tolist() == [0, 0, 2, 4, 4]


def test_smoothing_keeps_rest_and_steady_motion_and_damps_jitter():
    rest, motion = np.tile(box(3.0), (20, 1)), np.array([box(2.0 * i) for i in range(20)])
    np.testing.assert_allclose(smooth(rest, 1.0), rest)
    np.testing.assert_allclose(smooth(motion, 1.0)[3:-3], motion[3:-3])
    jitter = rest + np.resize([-1.0, 1.0], 20)[:, None]
    assert np.abs(smooth(jitter, 1.0) - rest)[3:-3].max() < 0.05
    np.testing.assert_allclose(smooth(motion[:1], 1.0), motion[:1])
    assert smooth(jitter, 0) is jitter
