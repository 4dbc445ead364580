import numpy as np
import pytest
from formulas import block_by_formula, block_parameters, norm_by_formula

from miniclip.text_encoder import encode_text, end_of_text

START, END = 8, 9
CONFIG = {
    "embed_dim": 5,
    "quick_gelu": True,
    "text_cfg": {"context_length": 7, "vocab_size": 10, "width": 4, "heads": 2, "layers": 2},
}
TOKENS = np.array([[START, 3, 4, END, 0, 0, 0], [START, END, 0, 0, 0, 0, 0], [START, 1, 1, 2, 5, END, 0]])


@pytest.fixture
def params(normal):
    return {
        "positional_embedding": normal(7, 4),
        "text_projection": normal(4, 5),
        "transformer": {"resblocks": [block_parameters(normal, 4) for _ in range(2)]},
        "token_embedding": {"weight": normal(10, 4)},
        "ln_final": {"weight": normal(4), "bias": normal(4)},
    }


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
    assert features.shape == (3, 5)
    assert np.allclose(features, encode_by_formula(params, TOKENS, exact=not quick), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rows", [3, 1])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradient(prove, params, rows, recompute):
    prove(encode_text, params, TOKENS[:rows], CONFIG, recompute, entries=4)


def test_gradients_have_the_tree_of_the_parameters(params):
    features, backward = encode_text(params, TOKENS, CONFIG)
    grads = backward(np.ones_like(features))
    assert grads.keys() == params.keys()
    assert (grads["positional_embedding"][6] == 0).all()  # no text reaches that far
    assert (grads["token_embedding"]["weight"][[6, 7]] == 0).all()


def test_nothing_after_the_end_matters(params, rng):
    features, _ = encode_text(params, TOKENS, CONFIG)
    changed = TOKENS.copy()
    for row, end in zip(changed, (3, 1, 5)):
        row[end + 1 :] = rng.integers(0, 10, 6 - end)  # another end token too: the first one counts
    changed[0, -1] = END
    assert (encode_text(params, changed, CONFIG)[0] == features).all()
    assert np.allclose(encode_text(params, TOKENS[:, :6], CONFIG)[0], features, rtol=1e-12)


def test_every_token_before_the_end_matters(params):
    features, _ = encode_text(params, TOKENS, CONFIG)
    for place in (0, 1, 2):
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


def test_end_is_where_the_end_token_first_stands():
    assert (end_of_text(np.array([[1, 2, 5, 9, 5], [2, 1, 0, 7, 2]]), 2) == [1, 0]).all()


def test_the_end_token_may_have_any_id(params):
    """A small vocabulary may give a word the largest id: the configuration names the end."""
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"eos_token_id": 2}}
    tokens = np.array([[1, 9, 9, 2, 0]])
    features, _ = encode_text(params, tokens, config)
    as_last = {0: 0, 1: 1, 9: 2, 2: 9}
    weight = params["token_embedding"]["weight"][[0, 1, 9, 3, 4, 5, 6, 7, 8, 2]]
    tokens = np.vectorize(as_last.get)(tokens)
    swapped, _ = encode_text(params | {"token_embedding": {"weight": weight}}, tokens, CONFIG)
    assert np.allclose(features, swapped, rtol=1e-12)


def test_the_older_rule_takes_the_largest_id_whichever_it_is(params):
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"pool_type": "argmax"}}
    assert (encode_text(params, TOKENS, config)[0] == encode_text(params, TOKENS, CONFIG)[0]).all()
    features, _ = encode_text(params, np.array([[1, 7, 2, 0], [3, 4, 5, 6]]), config)
    first, _ = encode_text(params, np.array([[1, 7]]), config)
    assert np.allclose(features[:1], first, rtol=1e-12) and not np.allclose(features[:1], features[1:], rtol=1e-3)


def test_bad_input_is_refused_in_a_sentence(params):
    with pytest.raises(ValueError, match="no end token .id 9."):
        encode_text(params, np.array([[8, 1, 2]]), CONFIG)
    with pytest.raises(ValueError, match="do not fit a table of 10 rows: this tokenizer"):
        encode_text(params, np.array([[8, 10, END]]), CONFIG)
    with pytest.raises(ValueError, match="do not fit a table"):
        encode_text(params, np.array([[8, -1, END]]), CONFIG)
    with pytest.raises(ValueError, match=r"shape \(1, 8\),? do not fit.*context length 7"):
        encode_text(params, np.array([[8, 1, 1, 1, 1, 1, 1, END]]), CONFIG)
    with pytest.raises(ValueError, match=r"shape \(3,\),? do not fit"):
        encode_text(params, np.array([8, 1, END]), CONFIG)


def test_tokens_that_are_no_integers_are_refused(params):
    with pytest.raises(ValueError, match="integer"):
        encode_text(params, TOKENS.astype(float), CONFIG)
