"""The loss where each picture has several texts, in columns: its caption, and beside it a description.

    L = Σ_c w_c clip_loss(images, column c) / Σ_c w_c

Each column is a batch of its own with the same pictures. So a description, which is true of many things, takes the
place of no name, and competes with none.
"""

from ..backend import array_module


def loss_of_columns(losses, weights):
    """A function like `clip_loss` of image_features (N, E) and text_features (N C, E), C texts of each image in turn.

    losses: C functions like `clip_loss`, one for each column; weights: what each counts in their mean. With one column
    it is that loss itself.
    """
    if len(losses) == 1:
        return losses[0]
    shares = [weight / sum(weights) for weight in weights]

    def loss(image_features, text_features, logit_scale):
        xp, n, count = array_module(image_features), len(image_features), len(losses)
        columns = text_features.reshape(n, count, -1)
        parts = [
            each(image_features, xp.ascontiguousarray(columns[:, c]), logit_scale) for c, each in enumerate(losses)
        ]

        def backward():
            d_image, d_text, d_logit_scale = 0, xp.empty_like(columns), 0
            for c, (share, (_, backward_of_column)) in enumerate(zip(shares, parts)):
                d_image_c, d_text_c, d_logit_scale_c = backward_of_column()
                d_image = d_image + share * d_image_c
                d_text[:, c] = share * d_text_c
                d_logit_scale = d_logit_scale + share * d_logit_scale_c
            return d_image, d_text.reshape(n * count, -1), d_logit_scale

        return sum(share * value for share, (value, _) in zip(shares, parts)), backward

    return loss
