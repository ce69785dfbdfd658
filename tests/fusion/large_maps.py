"""What the tests of hand-written gradients share: from which size they are, and whether they were."""

PLAIN, BY_HAND = 2**40, 1


def is_by_hand(output):
    return "_Reweight" in type(output.grad_fn).__name__


def squares(outputs, attention):
    return sum(output.square().sum() for output in outputs.values())
