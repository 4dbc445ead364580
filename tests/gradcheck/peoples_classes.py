"""Layers as people write them, each with a right backward pass: classes. (Networks: peoples_networks.py.)

OBJECTS: (id, object or class or method, args, options, names), as FUNCTIONS there.
"""

from functools import partial

import numpy as np

rng = np.random.default_rng(4)
normal = rng.standard_normal
X = normal((4, 3))
OBJECTS = []


def person(name, f, *args, names, kwargs=None, **options):
    OBJECTS.append((name, f, args, {"kwargs": kwargs or {}, **options}, names.split()))


class Linear:
    """Gradients are attributes that backward makes."""

    def __init__(self, inputs=3, outputs=5):
        self.W, self.b = normal((inputs, outputs)), np.zeros(outputs)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(0)
        return dout @ self.W.T


class Used(Linear):
    """The same after a step of training: its cache and its gradients are there already."""

    def __init__(self):
        super().__init__()
        self.backward(self.forward(X) ** 2)


class Dicts:
    """params and grads, which are added up."""

    def __init__(self):
        self.params = {"W": normal((3, 5)), "b": normal(5)}
        self.grads = {name: np.ones_like(p) for name, p in self.params.items()}

    def __call__(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dout):
        self.grads["W"] += self.x.T @ dout
        self.grads["b"] += dout.sum(0)
        return dout @ self.params["W"].T


class Nested:
    """params within params."""

    def __init__(self):
        self.params = {"fc": {"W": normal((3, 4))}, "out": {"W": normal((4, 2))}}

    def forward(self, x):
        self.x, self.hidden = x, x @ self.params["fc"]["W"]
        return self.hidden @ self.params["out"]["W"]

    def backward(self, dout):
        dhidden = dout @ self.params["out"]["W"].T
        self.grads = {"fc": {"dW": self.x.T @ dhidden}, "out": {"dW": self.hidden.T @ dout}}
        return dhidden @ self.params["fc"]["W"].T


class InPlace:
    """Lists, whose arrays are written to."""

    def __init__(self):
        self.params = [normal((3, 5)), normal(5)]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dout):
        self.grads[0][...] = self.x.T @ dout
        self.grads[1][...] = dout.sum(0)
        return dout @ self.params[0].T


class Parameter:
    def __init__(self, data):
        self.data, self.grad = data, np.zeros_like(data)


class WithParameters:
    """Objects that hold a parameter and its gradient."""

    def __init__(self):
        self.weight, self.bias = Parameter(normal((3, 5))), Parameter(normal(5))

    def forward(self, x):
        self.x = x
        return x @ self.weight.data + self.bias.data

    def backward(self, grad_output):
        self.weight.grad += self.x.T @ grad_output
        self.bias.grad += grad_output.sum(0)
        return grad_output @ self.weight.data.T


class ReLU:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class LeavesItOnSelf:
    """Outputs and gradients are attributes; nothing is returned."""

    def __init__(self):
        self.weights, self.biases = normal((3, 5)), np.zeros((1, 5))

    def forward(self, inputs, training):
        self.inputs, self.output = inputs, inputs @ self.weights + self.biases

    def backward(self, dvalues):
        self.dweights, self.dbiases = self.inputs.T @ dvalues, dvalues.sum(0, keepdims=True)
        self.dinputs = dvalues @ self.weights.T


class Steps:
    """backward takes the step of gradient descent at once."""

    def __init__(self):
        self.weights, self.bias = normal((3, 5)), normal((1, 5))

    def forward(self, input):
        self.input = input
        return input @ self.weights + self.bias

    def backward(self, output_gradient, learning_rate):
        input_gradient = output_gradient @ self.weights.T
        self.weights -= learning_rate * self.input.T @ output_gradient
        self.bias = self.bias - learning_rate * output_gradient.sum(0)
        return input_gradient


class OwnRate(Linear):
    """The same with a learning rate of its own, and new arrays."""

    def __init__(self):
        super().__init__()
        self.learning_rate = 0.1

    def backward(self, dout):
        dx = dout @ self.W.T
        self.W = self.W - self.learning_rate * self.x.T @ dout
        self.b = self.b - self.learning_rate * dout.sum(0)
        return dx


class Setting(Linear):
    """A parameter of backward that only sounds like a cotangent."""

    def backward(self, dLdy, retain_grads=True):
        return super().backward(dLdy)


class Squared:
    """A loss whose target is an array of floats."""

    def __call__(self, p, t):
        self.apart = p - t
        return (self.apart**2).mean()

    def backward(self):
        return 2 * self.apart / self.apart.size


class Slope:
    """A loss with its gradient as a method of the same arguments."""

    def loss(self, p, t):
        return ((p - t) ** 2).sum() / 2

    def gradient(self, p, t):
        return p - t


class LSTMCell:
    """Two outputs."""

    def __init__(self):
        self.Wx, self.Wh = normal((3, 2)), normal((2, 2))

    def forward(self, x, h, c):
        self.saved = x, h, np.tanh(x @ self.Wx + h @ self.Wh)
        c = c + self.saved[2]
        self.h = np.tanh(c)
        return self.h, c

    def backward(self, dh, dc):
        x, h, a = self.saved
        dc = dc + dh * (1 - self.h**2)
        da = dc * (1 - a**2)
        self.dWx, self.dWh = x.T @ da, h.T @ da
        return da @ self.Wx.T, da @ self.Wh.T, dc


class Dropout:
    def __init__(self, p=0.5):
        self.p, self.rng = p, np.random.default_rng(1)

    def forward(self, x):
        self.mask = (self.rng.random(x.shape) < self.p) / self.p
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class WithALog(Linear):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.log = open(__file__, encoding="utf-8")
        self.log.close()


class PReLU:
    """A parameter that is a Python float."""

    def __init__(self):
        self.slope = 0.25

    def forward(self, x):
        self.x = x
        return np.where(x.real > 0, x, self.slope * x)

    def backward(self, dout):
        self.dslope = float((dout * self.x * (self.x <= 0)).sum())
        return np.where(self.x > 0, dout, self.slope * dout)


class Private:
    """Names of other manners."""

    def __init__(self):
        self._V, self.U = normal((3, 5)), normal(5)

    def fprop(self, x):
        self._x = x
        return x @ self._V * self.U

    def bprop(self, gy):
        self._dV, self.gU = self._x.T @ (gy * self.U), (gy * (self._x @ self._V)).sum(0)
        return (gy * self.U) @ self._V.T


class PythonLists:
    def __init__(self):
        self.w, self.history = [0.5, -1.0, 2.0], [3.0, 2.0]

    def forward(self, x):
        self.x = x
        return sum(w * value for w, value in zip(self.w, x))

    def backward(self, d):
        self.dw = [d * value for value in self.x]
        return [d * w for w in self.w]


class ReturnsAll(Linear):
    def backward(self, dout):
        return dout @ self.W.T, self.x.T @ dout, dout.sum(0)


class Closures:
    """Returns its own backward."""

    def __init__(self):
        self.W = normal((3, 5))

    def __call__(self, x):
        return x @ self.W, lambda dy: (dy @ self.W.T, {"W": x.T @ dy})


class Multiply:
    """Functions of a context, as torch.autograd.Function has them."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, dout):
        a, b = ctx.saved_tensors
        return dout * b, dout * a


class Embedding:
    def __init__(self):
        self.weight = normal((6, 3))

    def forward(self, ids):
        self.ids = ids
        return self.weight[ids]

    def backward(self, dout):
        self.grad_weight = np.zeros_like(self.weight)
        np.add.at(self.grad_weight, self.ids, dout)


for layer in (Linear(), Linear, Used(), Dicts(), WithALog(), ReturnsAll()):
    person(getattr(layer, "__name__", f"{type(layer).__name__}()"), layer, X, names="x W b")
person("Nested", Nested, X, names="x fc.W out.W")
person("InPlace", InPlace, X, names="x params.0 params.1")
person("WithParameters", WithParameters, X, names="x weight bias")
person("LeavesItOnSelf", LeavesItOnSelf, X, True, names="inputs weights biases")
person("Steps", Steps, X, names="input weights bias")
person("OwnRate", OwnRate, X, names="x W b")
person("Setting", Setting, X, names="x W b")
person("Squared", Squared, X, X + normal((4, 3)), names="p")
person("Slope", Slope, X, X + normal((4, 3)), names="p")
person("a partial method", partial(Linear().forward, x=X), names="W b")
person("LSTMCell", LSTMCell, X, normal((4, 2)), normal((4, 2)), names="x h c Wx Wh")
person("Dropout", Dropout, X, names="x")
person("Private", Private, X, names="x _V U")
person("PythonLists", PythonLists, [1.0, 2.0, -0.5], names="x w")
person("PReLU", PReLU, X, names="x slope")
person("Closures", Closures, X, names="x W")
person("Multiply", Multiply, X, X + 1, names="a b")
person("Embedding", Embedding, np.array([1, 2, 1]), names="weight")
