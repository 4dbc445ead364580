"""The bugs of the bug hunt: lines of the library's backward passes, each with a wrong one that people write."""

from typing import NamedTuple


class Bug(NamedTuple):
    """In `file`, the text `old` stands once; with `new` in its place, `function` is wrong. `why`: the answer.

    case: of gradcheck's cases, one that finds it.
    """

    file: str
    function: str
    case: str
    old: str
    new: str
    why: str


BUGS = (
    Bug("layers.py", "linear", "linear", '"weight": drows.T @ rows}', '"weight": drows.T @ rows / len(rows)}',
        "the gradient of the weight is averaged over the rows, where each row adds its own."),
    Bug("layers.py", "linear", "linear", 'grads["bias"] = sum_rows(drows)', 'grads["bias"] = drows.mean(0)',
        "the gradient of the bias is averaged over the rows."),
    Bug("layers.py", "sum_by_id", "embedding", "np.add.at(total, ids, rows)", "total[ids] += rows",
        "where an id repeats, only its last row counts."),
    Bug("layers.py", "layer_norm", "layer_norm", "        dx -= ((dy @ weight) / width)[..., None]\n", "",
        "the mean of the gradient is not taken away."),
    Bug("layers.py", "layer_norm", "layer_norm", "dx -= normalised * ((along @ weight) / width)[..., None]",
        "dx -= normalised * (along @ weight)[..., None]", "in the term along x̂ a sum stands for a mean."),
    Bug("layers.py", "layer_norm", "layer_norm", "        dx = dy * weight\n", "        dx = dy * 1\n",
        "the gradient of x̂ lacks the weight, which the two terms that are taken away have."),
    Bug("layers.py", "relu", "relu", "return dy * (y > 0)", "return dy * (dy > 0)",
        "the mask is of the gradient, and not of the forward pass."),
    Bug("layers.py", "quick_gelu", "quick_gelu", "        d *= 1.702\n", "",
        "the factor 1.702 of the inner function is missing from its slope."),
    Bug("layers.py", "gelu", "gelu", "return dy * (cdf + x * density)", "return dy * (cdf + density)",
        "the density is not multiplied by x, as the product rule asks."),
    Bug("layers.py", "softmax", "softmax", "d -= y * d.sum(axis, keepdims=True)",
        "d -= y * d.mean(axis, keepdims=True)", "a mean stands where the sum of the row is due."),
    Bug("layers.py", "softmax", "softmax", "        d -= y * d.sum(axis, keepdims=True)\n", "",
        "the term with the sum is missing: each output is taken to depend on its own input alone."),
    Bug("layers.py", "l2_normalize", "l2_normalize", "(dy - y * (dy * y).sum(-1, keepdims=True)) / length",
        "(dy + y * (dy * y).sum(-1, keepdims=True)) / length", "the part along y is added, and not taken away."),
    Bug("attention.py", "attend", "attend", "return matmul(dscores, k), matmul(dscores.swapaxes(-1, -2), q), dv",
        "return matmul(dscores.swapaxes(-1, -2), q), matmul(dscores, k), dv",
        "the gradients of queries and keys are exchanged."),
    Bug("attention.py", "attend", "attend", "dscores = softmax_(matmul(dy, v.swapaxes(-1, -2)))",
        "dscores = matmul(dy, v.swapaxes(-1, -2))", "the backward pass of the softmax is left out."),
    Bug("attention.py", "attention_weights", "attention_weights", "        dscores *= scale\n", "",
        "the scale 1/√d of the scores is missing on the way back."),
    Bug("attention.py", "attention_pool", "attention_pool",
        "dpixels = dtokens[:, 1:] + dtokens[:, :1] / count", "dpixels = dtokens[:, 1:]",
        "the way through the mean of all pixels, the first token, is not followed back."),
    Bug("attention.py", "attention_pool", "attention_pool", "        dtokens[:, 0] += dfirst\n", "",
        "the first token also asks: the gradient of its query is never added."),
    Bug("conv.py", "conv2d", "conv2d", "turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)",
        "turned = weight.transpose(2, 3, 0, 1)", "the kernel is not turned by 180°."),
    Bug("conv.py", "conv2d", "conv2d", "dturned.reshape(kh, kw, out, channels)[::-1, ::-1]",
        "dturned.reshape(kh, kw, out, channels)", "the gradient of the turned kernel is not turned back."),
    Bug("conv.py", "scatter_patches", "conv2d", "stride] += patches[:, :, :, u, v]",
        "stride] = patches[:, :, :, u, v]", "windows that overlap overwrite one another, where they add up."),
    Bug("conv.py", "batch_norm", "batch_norm (training)",
        "            dx -= spread(weight * inverse * dbias / count)\n", "",
        "the mean of the batch is taken for a constant."),
    Bug("conv.py", "batch_norm", "batch_norm (training)", "slope = weight * inverse * inverse * dweight / count",
        "slope = weight * inverse * dweight / count", "in the term of the variance one 1/σ is missing."),
    Bug("conv.py", "average_pool", "average_pool", "spread = (dy / size**2).repeat(size, axis=2)",
        "spread = (dy / size).repeat(size, axis=2)", "each pixel of a square has a share of 1/size², and not 1/size."),
    Bug("transformer.py", "mlp", "mlp (quick_gelu)", "d, d_c_fc = c_fc(act(d))", "d, d_c_fc = c_fc(d)",
        "the slope of the activation is missing."),
    Bug("transformer.py", "residual_block", "residual_block", "        dx += dx1\n", "",
        "the shortcut around the attention is not followed back."),
    Bug("transformer.py", "residual_block", "residual_block", "        dx1 = dy + d\n", "        dx1 = d\n",
        "the shortcut around the MLP is not followed back."),
    Bug("transformer.py", "transformer", "transformer", "grads.insert(0, d_block)", "grads.append(d_block)",
        "the gradients of the blocks stand in the order of the backward pass."),
    Bug("loss.py", "contrastive_loss", "contrastive_loss", "scale * (g.T @ z_image), (g * similarity).sum()\n",
        "scale * (g @ z_image), (g * similarity).sum()\n", "the texts want the transpose of G."),
    Bug("loss.py", "contrastive_loss", "contrastive_loss", "return scale * (g @ z_text), scale",
        "return g @ z_text, scale", "the temperature is missing from the gradient of the pictures."),
    Bug("loss.py", "symmetric_cross_entropy", "symmetric_cross_entropy", "g[rows, columns] -= x + y",
        "g[rows, columns] -= x",
        "the truth is in both directions, and taken away in one."),
    Bug("loss.py", "symmetric_cross_entropy", "symmetric_cross_entropy", "        g /= 2 * n\n", "        g /= n\n",
        "the loss is the mean of two directions: a ½ is missing."),
    Bug("loss.py", "siglip_loss", "siglip_loss", "(g * similarity).sum(), g.sum()\n",
        "(g * similarity).sum(), -g.sum()\n", "the bias is added to every pair, and its gradient has the wrong sign."),
    Bug("vit.py", "vision_transformer", "vision_transformer", '"class_embedding": d_position[0]',
        '"class_embedding": d_position[-1]', "the class is the first token, and not the last."),
    Bug("text_encoder.py", "encode_text", "encode_text", "d_position[:length] = dx.sum(0)",
        "d_position[:length] = dx.mean(0)", "the positions are shared by all texts: a mean stands for a sum."),
    Bug("resnet.py", "bottleneck", "bottleneck", "return d + pool_shortcut(e), grads", "return d, grads",
        "the shortcut of a block that changes its shape is not followed back."),
)  # fmt: skip
