"""What is known of metrics by their names: `val_accuracy` is accuracy on the validation split."""


def higher_is_better(metric: str) -> bool:
    """Losses, errors and seconds fall, everything else rises."""
    return not metric.endswith(("loss", "mae", "mse", "error", "perplexity", "seconds"))


def counterpart(metric: str) -> str:
    """The same metric where the choice is judged, or was made.

    >>> counterpart("val_loss"), counterpart("test_loss")
    ('test_loss', 'val_loss')
    """
    split, _, name = metric.partition("_")
    return f"{'val' if split == 'test' else 'test'}_{name}"
