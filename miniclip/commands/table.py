"""What commands there are: each with a sentence and an example. Its flags stand in a file of its name.

Every file imports what its command needs when it runs, so that --help waits for no NumPy.
"""

COMMANDS = {
    "train": ("Train CLIP and evaluate it zero-shot.", "--data photos/ --out runs/photos"),
    "evaluate": ("Zero-shot accuracy of a checkpoint.", "emoji"),
    "search": (
        "Find pictures, emoji or those in a folder, by a description or by a picture. Each comes with its cosine "
        "similarity: of the embeddings of the query and of the picture, from -1 to 1; 1 is the same direction.",
        '"yellow fruit" --data photos/',
    ),
    "classify": (
        "Name a picture, given the possible names. A model that was calibrated, as the one that ships, also says how "
        'likely it is that none of them fits: "none of these". Others, such as OpenAI\'s, share all of the probability '
        "among the names, even for a picture of something else: see calibrate.",
        'picture.png --labels "a dog,a cat,a red car"',
    ),
    "calibrate": (
        "Make a model say how sure it may be, and when none of the names fits. On pictures that it was not trained on, "
        "the scale of the probabilities of classify is fitted, and what weighs against the names. Both become "
        "part of the checkpoint; all else in it stays.",
        "runs/photos --data photos/",
    ),
    "index": (
        "Index tars of pictures and captions, so that train can read any pair of them: once, and again where a tar "
        "changed. Each index is written beside its tar. Says what would be left out; a tar that is damaged is refused.",
        "'shards/{00000..41454}.tar'",
    ),
    "gradcheck": (
        "Prove a backward pass of yours, or every one of the library, against its forward pass, by the complex step "
        "and central differences. Exit status 0: all are right; 1: one is wrong or could not be checked; 2: bad use, "
        "or an exception.",
        "homework.py::batchnorm --shape x=4x5 --shape gamma=5",
    ),
    "grade": (
        "Points for the exercises in notebooks of the course. Exit status 0: all are right; 1: one is not, or is not "
        "written; 2: a file is no notebook.",
        "notebooks/exercises/03_norms.ipynb",
    ),
    "bug": ("A copy of the library with bugs in its backward passes, to be found.", "--seed 7 --count 3"),
}
