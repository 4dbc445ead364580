"""The text encoder: where a text ends, its mask and its gradients."""

import numpy as np
import pytest
from formulas import block_by_formula, norm_by_formula

from miniclip.gradcheck.random_inputs import VIT as CONFIG
from miniclip.text_encoder import encode_text, end_of_text

START, END = 18, 19  # of a vocabulary of 20; 6 tokens a text
TOKENS = np.array([[START, 3, END, 0, 0, 0], [START, END, 0, 0, 0, 0], [START, 1, 1, 2, END, 0]])


@pytest.fixture
def params(inputs):
    p = inputs.parameters(CONFIG)
    del p["visual"], p["logit_scale"]
    return p


def text(**changes):
    return CONFIG | {"text_cfg": CONFIG["text_cfg"] | changes}


def encode_by_formula(params, tokens, exact=False):
    features = []
    for row in tokens:
        x = params["token_embedding"]["weight"][row] + params["positional_embedding"][: len(row)]
        for block in params["transformer"]["resblocks"]:
            x = block_by_formula(x[None], block, 2, causal=True, exact=exact)[0]
        end = list(row).index(END)
        features.append(norm_by_formula(x, params["ln_final"])[end] @ params["text_projection"])
    return np.array(features)


@pytest.mark.parametrize("quick", [True, False])
def test_features_by_formula(params, quick):
    features, _ = encode_text(params, TOKENS, CONFIG | {"quick_gelu": quick})
    assert features.shape == (3, 6)
    assert np.allclose(features, encode_by_formula(params, TOKENS, exact=not quick), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rows, recompute", [(3, False), (1, True)])
def test_gradient(prove, params, rows, recompute):
    prove(encode_text, params, TOKENS[:rows], CONFIG, recompute, entries=4)


def test_gradients_have_the_tree_of_the_parameters(params):
    features, backward = encode_text(params, TOKENS, CONFIG)
    grads = backward(np.ones_like(features))
    assert grads.keys() == params.keys()
    assert (grads["positional_embedding"][5] == 0).all()  # no text reaches that far
    assert (grads["token_embedding"]["weight"][[6, 7]] == 0).all()


def test_nothing_after_the_end_matters(params, rng):
    features, _ = encode_text(params, TOKENS, CONFIG)
    changed = TOKENS.copy()
    for row, end in zip(changed, (2, 1, 4)):
        row[end + 1 :] = rng.integers(0, 20, 5 - end)
    changed[0, -1] = END  # another end token too: the first one counts
    assert (encode_text(params, changed, CONFIG)[0] == features).all()
    assert np.allclose(encode_text(params, TOKENS[:, :5], CONFIG)[0], features, rtol=1e-12)


def test_every_token_before_the_end_matters(params):
    features, _ = encode_text(params, TOKENS, CONFIG)
    for place in (0, 1):
        changed = TOKENS.copy()
        changed[0, place] = 7
        assert np.abs(encode_text(params, changed, CONFIG)[0][0] - features[0]).max() > 1e-3


def test_a_text_is_encoded_the_same_in_any_company(params):
    features, _ = encode_text(params, TOKENS, CONFIG)
    for i in range(3):
        assert np.allclose(encode_text(params, TOKENS[i : i + 1], CONFIG)[0], features[i : i + 1], rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_any_integers(params, dtype):
    assert (encode_text(params, TOKENS.astype(dtype), CONFIG)[0] == encode_text(params, TOKENS, CONFIG)[0]).all()


def test_the_end_is_where_the_end_token_first_stands():
    assert (end_of_text(np.array([[1, 2, 5, 9, 5], [2, 1, 0, 7, 2]]), 2) == [1, 0]).all()


def test_the_end_token_may_have_any_id(params):
    """A small vocabulary may give a word the largest id: the configuration names the end."""
    features, _ = encode_text(params, np.array([[1, END, END, 2, 0]]), text(eos_token_id=2))
    order = np.arange(20)
    order[[2, END]] = END, 2  # the two exchanged, in the table and in the text
    swapped = params | {"token_embedding": {"weight": params["token_embedding"]["weight"][order]}}
    assert np.allclose(features, encode_text(swapped, np.array([[1, 2, 2, END, 0]]), CONFIG)[0], rtol=1e-12)


def test_the_older_rule_takes_the_largest_id_whichever_it_is(params):
    config = text(pool_type="argmax")
    assert (encode_text(params, TOKENS, config)[0] == encode_text(params, TOKENS, CONFIG)[0]).all()
    features, _ = encode_text(params, np.array([[1, 7, 2, 0], [3, 4, 5, 6]]), config)
    first, _ = encode_text(params, np.array([[1, 7]]), config)
    assert np.allclose(features[:1], first, rtol=1e-12) and not np.allclose(features[:1], features[1:], rtol=1e-3)


@pytest.mark.parametrize(
    "tokens, sentence",
    [
        ([[START, 1, 2]], "no end token .id 19."),
        ([[START, 20, END]], "do not fit a table of 20 rows: this tokenizer"),
        ([[START, -1, END]], "do not fit a table"),
        ([[START, 1, 1, 1, 1, 1, END]], r"shape \(1, 7\) do not fit.*context length 6"),
        ([START, 1, END], r"shape \(3,\); it must be an array \(N, T\) of integers"),
        ([[18.0, 1.0, 19.0]], "array of float64 with shape .1, 3.; it must be an array .N, T. of integers"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(params, tokens, sentence):
    with pytest.raises(ValueError, match=sentence):
        encode_text(params, np.array(tokens), CONFIG)
