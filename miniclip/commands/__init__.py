"""The commands of `python -m miniclip`: each with its flags, and what it prints."""

from .classify import CLASSIFY, run_classify
from .evaluate import EVALUATE, run_evaluate
from .gradcheck import GRADCHECK, run_gradcheck
from .search import SEARCH, run_search
from .train import TRAIN, run_train
