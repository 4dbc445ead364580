"""Networks as people write them, of the layers in peoples_classes.py: layers in lists, losses as methods.

NETWORKS: as OBJECTS there.
"""

from collections import OrderedDict

import numpy as np
from peoples_classes import Linear, ReLU, X, normal

LABELS = np.array([0, 2, 1, 2])
NETWORKS = []


def person(name, f, *args, names, kwargs=None, **options):
    NETWORKS.append((name, f, args, {"kwargs": kwargs or {}, **options}, names.split()))


class Sequential:
    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout


class Network:
    """Layers as attributes, an argument with a default, and a backward that returns nothing."""

    def __init__(self):
        self.fc1, self.act, self.fc2 = Linear(3, 4), ReLU(), Linear(4, 2)

    def forward(self, x, train=False):
        return self.fc2.forward(self.act.forward(self.fc1.forward(x))) * (2 if train else 1)

    def backward(self, dout):
        self.fc1.backward(self.act.backward(self.fc2.backward(2 * dout)))


class Tied:
    """Two layers with one array of weights, each with its own share of the gradient, in lists."""

    def __init__(self):
        W = normal((3, 3))
        self.layers = [InPlaceAffine(W), InPlaceAffine(W)]
        self.params = [layer.params[0] for layer in self.layers]
        self.grads = [layer.grads[0] for layer in self.layers]

    def forward(self, x):
        return self.layers[1].forward(np.tanh(self.layers[0].forward(x)))

    def backward(self, dout):
        slope = 1 - np.tanh(self.layers[0].x @ self.params[0]) ** 2
        return self.layers[0].backward(slope * self.layers[1].backward(dout))


class InPlaceAffine:
    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, x):
        self.x = x
        return x @ self.params[0]

    def backward(self, dout):
        self.grads[0][...] = self.x.T @ dout
        return dout @ self.params[0].T


class Columns:
    """Lists of weights and biases, a cost, and their gradients in two lists."""

    def __init__(self):
        self.biases, self.weights = [normal((4, 1)), normal((2, 1))], [normal((4, 3)), normal((2, 4))]

    def cost(self, x, y):
        hidden = np.tanh(self.weights[0] @ x + self.biases[0])
        return ((self.weights[1] @ hidden + self.biases[1] - y) ** 2).sum() / 2

    def backprop(self, x, y):
        hidden = np.tanh(self.weights[0] @ x + self.biases[0])
        d = self.weights[1] @ hidden + self.biases[1] - y
        dhidden = self.weights[1].T @ d * (1 - hidden**2)
        return [dhidden, d], [dhidden @ x.T, d @ hidden.T]


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.y, self.t = np.exp(x) / np.exp(x).sum(1, keepdims=True), t
        return -np.log(self.y[np.arange(len(t)), t]).mean()

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / len(self.t)


class Affine:
    def __init__(self, W, b):
        self.W, self.b, self.dW, self.db = W, b, None, None

    forward, backward = Linear.forward, Linear.backward


class TwoLayerNet:
    """params that the layers hold too; the loss and its gradient are two methods."""

    def __init__(self):
        self.params = {"W1": normal((3, 4)), "b1": normal(4), "W2": normal((4, 3)), "b2": normal(3)}
        first, last = (Affine(self.params[f"W{i}"], self.params[f"b{i}"]) for i in (1, 2))
        self.layers = OrderedDict(Affine1=first, Relu1=ReLU(), Affine2=last)
        self.last_layer = SoftmaxWithLoss()

    def loss(self, x, t):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.last_layer.forward(x, t)

    def gradient(self, x, t):
        TwoLayerNet.loss(self, x, t)
        dout = self.last_layer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        first, last = self.layers["Affine1"], self.layers["Affine2"]
        return {"W1": first.dW, "b1": first.db, "W2": last.dW, "b2": last.db}


class LossAndGradients(TwoLayerNet):
    def loss(self, X, y=None):
        return super().loss(X, y), self.gradient(X, y)


NET, COLUMNS = TwoLayerNet(), Columns()
person("Sequential", Sequential(Linear(3, 4), ReLU(), Linear(4, 2)), X,
       names="x layers.0.W layers.0.b layers.2.W layers.2.b")  # fmt: skip
person("Network", Network, X, kwargs={"train": True}, names="fc1.W fc1.b fc2.W fc2.b")
person("Tied", Tied, X, names="x params.0")
person("Columns", COLUMNS.cost, X[0, :, None], X[1, :2, None], gradient=COLUMNS.backprop,
       names="biases.0 biases.1 weights.0 weights.1")  # fmt: skip
person("SoftmaxWithLoss", SoftmaxWithLoss, X, LABELS, names="x")
person("TwoLayerNet", NET.loss, X, LABELS, gradient=NET.gradient, names="W1 b1 W2 b2")
person("TwoLayerNet itself", NET, X, LABELS, names="W1 b1 W2 b2")
person("LossAndGradients", LossAndGradients().loss, X, LABELS, names="W1 b1 W2 b2")
person("two methods", NET.layers["Affine1"].forward, X, backward=NET.layers["Affine1"].backward, names="x W b")
person("forward alone", NET.layers["Affine1"].forward, X, names="x W b")
