"""The same CLIP in PyTorch, as its users write it for speed: what benchmarks/cpu.py and gpu.py measure against.

Functions over a dictionary of parameters (no time goes to module calls), scaled_dot_product_attention,
fused AdamW, set_to_none, channels-last pictures and kernels for the ResNet, inference_mode for encoding,
and torch.compile over the whole loss where asked for. On a graphics card bfloat16 is autocast, TF32 the library's
setting, and the loss stays there, so that no step waits for it. Names and shapes are OpenAI's.
"""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F


def norm(x, p, name):
    return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"])


def transformer(x, p, prefix, layers, heads, causal):
    n, t, width = x.shape
    for i in range(layers):
        block = f"{prefix}.resblocks.{i}."
        h = norm(x, p, block + "ln_1")
        qkv = F.linear(h, p[block + "attn.in_proj_weight"], p[block + "attn.in_proj_bias"])
        q, k, v = qkv.view(n, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(n, t, width)
        x = x + F.linear(h, p[block + "attn.out_proj.weight"], p[block + "attn.out_proj.bias"])
        h = F.linear(norm(x, p, block + "ln_2"), p[block + "mlp.c_fc.weight"], p[block + "mlp.c_fc.bias"])
        h = h * torch.sigmoid(1.702 * h)
        x = x + F.linear(h, p[block + "mlp.c_proj.weight"], p[block + "mlp.c_proj.bias"])
    return x


def encode_text(p, tokens, config):
    text = config["text_cfg"]
    x = F.embedding(tokens, p["token_embedding.weight"]) + p["positional_embedding"][: tokens.shape[1]]
    x = transformer(x, p, "transformer", text["layers"], text["heads"], causal=True)
    end = (tokens == text["vocab_size"] - 1).int().argmax(-1)
    return norm(x[torch.arange(len(x), device=x.device), end], p, "ln_final") @ p["text_projection"]


def vision_transformer(p, images, config):
    vision = config["vision_cfg"]
    x = F.conv2d(images, p["visual.conv1.weight"], stride=vision["patch_size"]).flatten(2).transpose(1, 2)
    cls = p["visual.class_embedding"].expand(len(x), 1, -1)
    x = norm(torch.cat([cls, x], 1) + p["visual.positional_embedding"], p, "visual.ln_pre")
    heads = vision["width"] // vision.get("head_width", 64)
    x = transformer(x, p, "visual.transformer", vision["layers"], heads, causal=False)
    return norm(x[:, 0], p, "visual.ln_post") @ p["visual.proj"]


def conv_norm(x, p, conv, bn, training, **where):
    h = F.conv2d(x, p[f"{conv}.weight"], **where)
    mean, variance, weight, bias = (p[f"{bn}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(h, mean, variance, weight, bias, training)


def modified_resnet(p, images, config, training):
    vision = config["vision_cfg"]
    x = images
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = F.relu(conv_norm(x, p, f"visual.conv{i}", f"visual.bn{i}", training, stride=stride, padding=1))
    x = F.avg_pool2d(x, 2)
    for stage, blocks in enumerate(vision["layers"], 1):
        for i in range(blocks):
            name = f"visual.layer{stage}.{i}."
            stride = 2 if stage > 1 and i == 0 else 1
            h = F.relu(conv_norm(x, p, name + "conv1", name + "bn1", training))
            h = F.relu(conv_norm(h, p, name + "conv2", name + "bn2", training, padding=1))
            h = F.avg_pool2d(h, stride) if stride > 1 else h
            h = conv_norm(h, p, name + "conv3", name + "bn3", training)
            if i == 0:
                x = F.avg_pool2d(x, stride) if stride > 1 else x
                x = conv_norm(x, p, name + "downsample.0", name + "downsample.1", training)
            x = F.relu(x + h)
    return attention_pool(p, x, vision["width"] * 32 // vision.get("head_width", 64))


def attention_pool(p, x, heads):
    x = x.flatten(2).transpose(1, 2)  # (N, H·W, C)
    x = torch.cat([x.mean(1, keepdim=True), x], 1) + p["visual.attnpool.positional_embedding"]
    n, t, width = x.shape

    def heads_of(name, tokens):
        h = F.linear(tokens, p[f"visual.attnpool.{name}.weight"], p[f"visual.attnpool.{name}.bias"])
        return h.view(n, -1, heads, width // heads).transpose(1, 2)

    h = F.scaled_dot_product_attention(heads_of("q_proj", x[:, :1]), heads_of("k_proj", x), heads_of("v_proj", x))
    return F.linear(h.reshape(n, width), p["visual.attnpool.c_proj.weight"], p["visual.attnpool.c_proj.bias"])


def embed(p, images, tokens, config, training):
    """Unit embeddings of pictures and of texts."""
    if isinstance(config["vision_cfg"]["layers"], (list, tuple)):
        image_features = modified_resnet(p, images, config, training)
    else:
        image_features = vision_transformer(p, images, config)
    return F.normalize(image_features, dim=-1), F.normalize(encode_text(p, tokens, config), dim=-1)


def clip_loss(p, images, tokens, config):
    z_image, z_text = embed(p, images, tokens, config, training=True)
    logits = p["logit_scale"].exp() * z_image @ z_text.T
    truth = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, with the scale of Liu et al. 2025, in float32 (torch.optim.Muon's products have 16 bits).

    leaves: [(parameter, (M, rows, columns))], the matrices that each holds.
    """

    def __init__(self, leaves, lr, weight_decay, momentum=0.95):
        self.shapes, self.momentum = [shape for _, shape in leaves], momentum
        super().__init__([leaf for leaf, _ in leaves], {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        [group] = self.param_groups
        for leaf, shape in zip(group["params"], self.shapes):
            m = self.state[leaf].setdefault("momentum", torch.zeros_like(leaf))
            m.mul_(self.momentum).add_(leaf.grad)
            x = leaf.grad.add(m, alpha=self.momentum).reshape(shape)
            x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
            x = x.mT if (tall := shape[1] > shape[2]) else x
            for _ in range(5):
                gram = x @ x.mT
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            x = x.mT if tall else x
            leaf.mul_(1 - group["lr"] * group["weight_decay"])
            leaf.add_(x.reshape(leaf.shape), alpha=-group["lr"] * 0.2 * max(shape[1:]) ** 0.5)


class Torch:
    """One training state. params: {dotted name: array}; images (N, 3, S, S), tokens (N, T): arrays.

    device: "cpu" or "cuda"; precision, on "cuda": "float32", "tf32", or "bfloat16" by autocast; muon: {name: shape}
    of the parameters that are Muon's, and not AdamW's.
    """

    def __init__(
        self,
        params,
        images,
        tokens,
        config,
        settings,
        threads,
        compiled=False,
        device="cpu",
        precision="float32",
        muon=(),
    ):
        torch.set_num_threads(threads)
        self.device, self.half = device, precision == "bfloat16"
        if device == "cuda":
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
        resnet = isinstance(config["vision_cfg"]["layers"], (list, tuple))
        layout = torch.channels_last if resnet else torch.contiguous_format

        def tensor(array):
            result = torch.from_numpy(array.copy()).to(device)
            return result.contiguous(memory_format=layout) if array.ndim == 4 else result

        self.p = {name: tensor(array) for name, array in params.items()}
        self.images, self.tokens, self.config = tensor(images), torch.from_numpy(tokens).to(device), config
        self.learned = {name: leaf.requires_grad_() for name, leaf in self.p.items() if "running_" not in name}
        rest = [leaf for name, leaf in self.learned.items() if name not in muon]
        matrices, others = ([leaf for leaf in rest if (leaf.ndim > 1) == m] for m in (True, False))
        decay = settings["weight_decay"]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings["learning_rate"],
            betas=settings["betas"],
            eps=settings["epsilon"],
            fused=True,
        )
        self.optimizers = [self.optimizer]
        if muon:
            leaves = [(self.p[name], shape) for name, shape in muon.items()]
            self.optimizers.append(Muon(leaves, settings["learning_rate"], decay))
        self.loss, self.embed = (torch.compile(f) if compiled else f for f in (clip_loss, embed))

    def differentiate(self):
        """The loss, once its gradients are there."""
        with torch.autocast("cuda", torch.bfloat16) if self.half else nullcontext():
            loss = self.loss(self.p, self.images, self.tokens, self.config)
        loss.backward()
        return loss.detach()

    def loss_and_gradient(self):
        """The loss and {name: gradient}, without a step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.differentiate()
        return loss.item(), {name: leaf.grad.cpu().numpy() for name, leaf in self.learned.items()}

    def step(self):
        """One training step: the loss, its gradient, AdamW, and the temperature's bound."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.differentiate()
        self.optimizer.step()
        with torch.no_grad():
            self.p["logit_scale"].clamp_(max=math.log(100))
        return loss.item() if self.device == "cpu" else loss

    def encode(self):
        """Both embeddings, without anything kept for a gradient."""
        with torch.inference_mode():
            return self.embed(self.p, self.images, self.tokens, self.config, False)


def about():
    """Versions and how it was built, for the report."""
    return f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
