"""Against transformers' CLIPModel: the Hugging Face layout, both activations, and both rules of where a text ends.

`openai_names` says once more, and apart from the library, which of Hugging Face's names is which of
OpenAI's; what `miniclip.load` makes of a folder that transformers saved has to be the same numbers.
"""

import re
import shutil
from copy import deepcopy

import numpy as np
import parity
import pytest
from references import (
    DTYPES,
    EMBEDDINGS,
    LIMIT,
    assert_within,
    compare_models,
    error,
    parts,
    pictures,
    randomize,
    texts,
)

import miniclip
from miniclip import encode_image, encode_text
from miniclip.init import initialize
from miniclip.model import CLIP
from miniclip.preprocess import CLIP_PREPROCESS
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten, unflatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NAMES = [  # Hugging Face's, OpenAI's, in this order
    (r"^text_model\.", ""),
    (r"^vision_model\.", "visual."),
    (r"embeddings\.token_embedding", "token_embedding"),
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.patch_embedding", "conv1"),
    (r"encoder\.layers", "transformer.resblocks"),
    (r"\.self_attn\.", ".attn."),
    (r"layer_norm([12])", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"pre_layrnorm", "ln_pre"),
    (r"post_layernorm", "ln_post"),
    (r"final_layer_norm", "ln_final"),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_projection\.weight$", "text_projection"),
]


def openai_names(named):
    """{Hugging Face's name: array} -> {OpenAI's: array}, queries, keys and values still apart."""
    result = {}
    for name, array in named.items():
        transpose = name.endswith("_projection.weight")
        for theirs, ours in NAMES:
            name = re.sub(theirs, ours, name)
        result[name] = array.T if transpose else array
    return result


def params_of(model):
    """miniclip's tree of a CLIPModel's parameters."""
    named = openai_names({name: tensor.detach().numpy() for name, tensor in model.named_parameters()})
    for name in [name for name in named if ".attn.q_proj." in name]:
        qkv = [named.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        named[name.replace("q_proj.", "in_proj_")] = np.concatenate(qkv)
    return unflatten(named)


class Encoders:
    """A CLIPModel with the two functions that OpenAI's has."""

    def __init__(self, model):
        self.model, self.logit_scale, self.named_parameters = model, model.logit_scale, model.named_parameters

    def encode_image(self, images):
        return features_of(self.model.get_image_features(pixel_values=images))

    def encode_text(self, tokens):
        return features_of(self.model.get_text_features(input_ids=tokens))


def features_of(output):
    """Transformers 5 gives an object that holds the features, 4 the features."""
    return output if torch.is_tensor(output) else output.pooler_output


def make(act="quick_gelu", end=59, vocabulary=60, ratio=4, context=9):
    """A small CLIPModel, random norms and biases and all, and miniclip's configuration of it."""
    both = {"hidden_size": 64, "intermediate_size": 64 * ratio, "num_hidden_layers": 2, "num_attention_heads": 2}
    both["hidden_act"] = act
    tokens = {"vocab_size": vocabulary, "eos_token_id": end, "bos_token_id": 0, "pad_token_id": 1}
    hf = transformers.CLIPConfig(
        vision_config=both | {"image_size": 20, "patch_size": 6},
        text_config=both | tokens | {"max_position_embeddings": context},
        projection_dim=24,
    )
    torch.manual_seed(0)
    model = randomize(transformers.CLIPModel(hf)).eval()
    for tensor in model.parameters():
        if tensor.ndim > 1:  # drawn so small that attention would be a plain mean
            tensor.data += 0.1 * torch.randn(tensor.shape)
    text = {"context_length": context, "vocab_size": vocabulary, "width": 64, "heads": 2, "layers": 2}
    text |= {"pool_type": "argmax"} if end == 2 else {"eos_token_id": end}
    vision = {"image_size": 20, "layers": 2, "width": 64, "head_width": 32, "patch_size": 6}
    return model, {
        "embed_dim": 24,
        "quick_gelu": act == "quick_gelu",
        "vision_cfg": vision,
        "text_cfg": text,
        "preprocess": CLIP_PREPROCESS,
    }


def tokens_that_tell(rng, end):
    """Rows in which the end token is not the largest id, stands more than once, or pads what follows."""
    if end == 2:
        return np.array([[5, 7, 59, 0, 0, 0, 0, 0, 0], [58, 2, 9, 59, 3, 59, 2, 2, 2], [3, 4, 2, 5, 6, 7, 8, 9, 50]])
    rows = rng.integers(0, 60, (3, 9))
    rows[rows == end] = end + 1
    rows[0, -1], rows[1, 3:], rows[2, [1, 5]] = end, end, end
    return rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("end", [59, 2, 17])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_every_gradient_and_where_a_text_ends(act, end, dtype):
    """59: the usual. 2: transformers' mark for old configurations, the largest id. 17: an id in the middle."""
    rng = np.random.default_rng(1)
    model, config = make(act, end)
    model.to(getattr(torch, dtype))
    tokens = texts(rng, 3, config) if end == 59 else tokens_that_tell(rng, end)
    found = compare_models(Encoders(model), params_of(model), config, pictures(rng, 3, 20), tokens, rename=openai_names)
    assert_within(found, lambda name: EMBEDDINGS[dtype] if name == "embeddings" else LIMIT[dtype])
    assert len(found) > 70


def test_the_wrong_activation_or_the_wrong_end_would_be_seen():
    rng = np.random.default_rng(1)
    model, config = make("gelu", 17)
    images, tokens = pictures(rng, 3, 20), tokens_that_tell(rng, 17)
    for wrong in (config | {"quick_gelu": True}, config | {"text_cfg": config["text_cfg"] | {"pool_type": "argmax"}}):
        found = compare_models(Encoders(model), params_of(model), wrong, images, tokens, rename=openai_names)
        assert found["text features"] > 1e-3


def test_the_loss_is_transformers_own():
    rng = np.random.default_rng(1)
    model, config = make()
    images, tokens = pictures(rng, 3, 20).astype(np.float32), texts(rng, 3, config)
    output = model(input_ids=torch.tensor(tokens), pixel_values=torch.tensor(images), return_loss=True)
    params = params_of(model)
    loss, _ = miniclip.clip_loss(
        encode_image(params, images, config)[0], encode_text(params, tokens, config)[0], params["logit_scale"]
    )
    assert error(loss, output.loss.detach()) <= LIMIT["float32"]


# ------------------------------------------------------------------------------------------ files


@pytest.fixture(autouse=True, scope="module")
def no_bar_of_progress():
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("act, end, ratio", [("quick_gelu", 49407, 4), ("gelu", 2, 3)])
def test_a_saved_folder_loads_as_the_same_numbers(tmp_path, act, end, ratio, stored):
    """Every parameter to the last bit, and features of pictures and texts within rounding."""
    rng = np.random.default_rng(1)
    model, config = make(act, end, 49408, ratio)
    model.to(stored).save_pretrained(tmp_path)
    clip = miniclip.load(tmp_path)
    wanted = flatten(params_of(model.float()))
    ours = flatten(clip.params)
    assert ours.keys() == wanted.keys()
    for name, array in ours.items():
        assert array.dtype == np.float32 and (array == wanted[name]).all(), name
    assert clip.config["quick_gelu"] == (act == "quick_gelu") and clip.about["layout"] == "huggingface"
    assert clip.config["text_cfg"].get("pool_type") == ("argmax" if end == 2 else None)

    images, tokens = pictures(rng, 3, 20).astype(np.float32), clip.tokenizer(["a cat", "", "two dogs, a cow"], 9)
    if end == 2:  # then the largest id counts, wherever there is no end
        tokens[0] = [5, 6, 2, 900, 7, 8, 0, 0, 0]
    with torch.no_grad():
        theirs = [Encoders(model).encode_image(torch.tensor(images)), Encoders(model).encode_text(torch.tensor(tokens))]
    assert error(encode_image(clip.params, images, clip.config)[0], theirs[0]) <= 1e-5
    assert error(encode_text(clip.params, tokens, clip.config)[0], theirs[1]) <= 1e-5
    assert parts(ours).keys() >= {"transformer.resblocks.1.attn.k_proj.bias", "visual.proj", "logit_scale"}


def test_shards_and_pickles_are_the_same_model(tmp_path):
    model, _ = make(end=49407, vocabulary=49408)
    model.save_pretrained(tmp_path / "whole")
    whole = flatten(miniclip.load(tmp_path / "whole").params)
    model.save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    state = model.state_dict() | {"text_model.embeddings.position_ids": torch.arange(9)[None]}
    (tmp_path / "bin").mkdir()
    torch.save(state, tmp_path / "bin" / "pytorch_model.bin")
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "bin")
    for kind in ("shards", "bin"):
        ours = flatten(miniclip.load(tmp_path / kind).params)
        assert ours.keys() == whole.keys() and all((ours[name] == whole[name]).all() for name in whole)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_transformers_opens_what_is_saved(tmp_path, act):
    tokenizer = Tokenizer.train(["a small red circle", "a large red square"], 540)
    config = deepcopy(make(act, tokenizer.end_token, tokenizer.vocab_size)[1])
    del config["text_cfg"]["eos_token_id"]
    config["vision_cfg"]["mlp_ratio"] = 3
    clip = CLIP(initialize(config, 1), config, tokenizer)
    miniclip.save(clip, tmp_path, "huggingface")
    model, told = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs, ours = flatten(params_of(model)), flatten(clip.params)
    assert theirs.keys() == ours.keys() and all((theirs[name] == ours[name]).all() for name in ours)
    images, tokens = pictures(np.random.default_rng(0), 2, 20), tokenizer(["a red", "large"], 9)
    found = compare_models(Encoders(model), clip.params, config, images, tokens, rename=openai_names)
    assert_within(found, lambda name: EMBEDDINGS["float32"] if name == "embeddings" else LIMIT["float32"])
    their_tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    for text in ("a red square", "", "It's 3 red SQUARES!", "naïve café 🙂"):
        ids = [tokenizer.start_token, *tokenizer.encode(text), tokenizer.end_token]
        assert their_tokenizer(text)["input_ids"] == ids


def test_the_command_compares_with_transformers(tmp_path, capsys):
    make("gelu", 2, 49408, 3, context=77)[0].save_pretrained(tmp_path)
    assert parity.main([str(tmp_path), "--gradients"]) == 0
    assert f"transformers {transformers.__version__}" in capsys.readouterr().out
