"""Files from strangers: reading them takes no more than their size allows, and a broken one gives one line.

Every reader of such a file works inside `reading`, which turns whatever a library raises into one error with the file's
name, and asks `check_size` before it takes memory for what a file declares.
"""
