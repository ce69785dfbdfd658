"""What `msafusion predict` prints, read."""

import json


def parsed(text):
    return [json.loads(line) for line in text.splitlines()]
