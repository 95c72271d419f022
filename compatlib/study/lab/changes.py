"""What else old and new model may differ in than the classes: words for a row, old role, new role."""

SAME_ENCODER = "the same encoder"  # where heads are trained and each role has its own
CHANGES = {
    "a wider and deeper network": ("old_small", "new_deep"),
    "a longer embedding": ("old_narrow", "new"),
    "a shorter embedding": ("old", "new_narrow"),
    "softmax to cosine": ("old", "new_cosine"),
    "softmax to ArcFace": ("old", "new_arcface"),
    "classes only, both cosine": ("old_cosine", "new_cosine"),
    "network, embedding and loss": ("old_small_narrow", "new_deep_arcface"),
}
