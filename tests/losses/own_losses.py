"""Losses of a user's own: those with a mistake each, and the words of its refusal (`# here` marks the line that it must name, and
`# here_class` the class), and right ones in all the forms that Python offers."""
# ruff: noqa: E501

HEAD = """
import dataclasses, functools, math, random
import jax, jax.numpy as jnp
import numpy as np
from w2sr_jax.losses import formulas
from w2sr_jax.losses.schedules import Schedule
from w2sr_jax.losses.token import *
from w2sr_jax.losses.weights import TokenWeights


def nll(tokens):
    return -jnp.take_along_axis(jax.nn.log_softmax(tokens.logits), tokens.target[:, None], axis=1)[:, 0]


"""

WRONG = {
    "raises for long blocks": (
        "def loss(tokens):\n    if len(tokens.target) > 100:\n        raise ValueError('too long')  # here\n    return nll(tokens)",
        "too long",
    ),
    "mean": ("def loss(tokens):  # here\n    return jnp.mean(nll(tokens))", "one number for the whole block"),
    "sum": ("def loss(tokens):  # here\n    return nll(tokens).sum()", "leave out its mean or sum"),
    "column": ("def loss(tokens):  # here\n    return nll(tokens)[:, None]", r"\[8, 1\].* take \[:, 0\]"),
    "row": ("def loss(tokens):  # here\n    return nll(tokens)[None]", r"\[1, 8\].* take \[0\]"),
    "vocabulary": ("def loss(tokens):  # here\n    return -jax.nn.log_softmax(tokens.logits)", "pick the target's"),
    "wrong axis": ("def loss(tokens):  # here\n    return jnp.max(tokens.logits, axis=0)", "reduce over axis=-1"),
    "outer": ("def loss(tokens):  # here\n    return nll(tokens)[:, None] * jnp.exp(-nll(tokens))", "each token with each"),
    "shifted": ("def loss(tokens):  # here\n    return nll(tokens)[1:]", "do not shift"),
    "one size": (
        "def loss(tokens):  # here\n    return jnp.pad(nll(tokens), (0, 24))[:8]",
        r"\[8\] for 24 tokens",
    ),
    "size in the code": ("def loss(tokens):\n    return nll(tokens) * jnp.linspace(0, 1, 512)  # here", "T = 8 tokens"),
    "pairs": ("def loss(tokens):\n    return nll(tokens).reshape(-1, 16).sum(1)  # here", "every number of tokens must do"),
    "booleans": ("def loss(tokens):  # here\n    return tokens.logits.argmax(-1) != tokens.target", "returns booleans"),
    "integers": ("def loss(tokens):  # here\n    return (tokens.logits.argmax(-1) != tokens.target).astype(int)", "int32.*no gradient"),
    "complex": ("def loss(tokens):  # here\n    return nll(tokens) + 1j", "complex64"),
    "nothing": ("def loss(tokens):  # here\n    nll(tokens)", r"returns nothing \(None\)"),
    "tuple": ("def loss(tokens):  # here\n    return nll(tokens), {}", "returns a tuple of 2"),
    "list": ("def loss(tokens):  # here\n    return [nll(tokens)]", "returns a list of 1"),
    "dict": ("def loss(tokens):  # here\n    return {'loss': nll(tokens)}", "returns a dict of 1"),
    "text": ("def loss(tokens):  # here\n    return 'nll'", "returns a str"),
    "number": ("def loss(tokens):  # here\n    return 0.0", "returns the number 0.0"),
    "numpy constant": ("def loss(tokens):  # here\n    return np.ones(len(tokens.target), np.float32)", "NumPy array"),
    "a function": ("def loss(tokens):  # here\n    return nll", "returns a function"),
    "constant": ("def loss(tokens):  # here\n    return jnp.ones(tokens.target.shape)", "does not depend on tokens.logits"),
    "of other fields": ("def loss(tokens):  # here\n    return -jnp.nan_to_num(tokens.teacher_logprob)", "does not depend on"),
    "stopped": ("def loss(tokens):  # here\n    return jax.lax.stop_gradient(nll(tokens))", "gradient of 0"),
    "stopped within": (
        "def loss(tokens):  # here\n    logits = jax.lax.stop_gradient(tokens.logits)\n    return nll(tokens._replace(logits=logits))",
        "gradient of 0",
    ),
    "stopped and jitted": ("@jax.jit\ndef loss(tokens):\n    return jax.lax.stop_gradient(nll(tokens))", "gradient of 0"),
    "error rate": ("def loss(tokens):  # here\n    return (tokens.logits.argmax(-1) != tokens.target).astype(jnp.float32)", "argmax"),
    "rounded": ("def loss(tokens):  # here\n    return jnp.round(nll(tokens))", "rounding"),
    "hinge of constants": ("def loss(tokens):  # here\n    return jnp.where(nll(tokens) > 1.0, 1.0, 0.0)", "comparisons"),
    "times zero": ("def loss(tokens):  # here\n    return 0.0 * nll(tokens)", "gradient of 0"),
    "vjp of zeros": (
        "@jax.custom_vjp\ndef loss(tokens):\n    return nll(tokens)\n\n\n"
        "def back(tokens, slope):\n    return (jax.tree.map(jnp.zeros_like, tokens),)\n\n\n"
        "loss.defvjp(lambda tokens: (nll(tokens), tokens), back)",
        "gradient of 0|float0",
    ),
    "reference": (
        "def loss(tokens):\n    return nll(tokens) + jnp.sum(tokens.reference, axis=-1)  # here",
        r"there is not \(the initial student's log-probabilities are tokens\.logprobs_of\('initial'\), .* models = \('initial',\)",
    ),
    "needs_reference": (
        "def loss(tokens):  # here\n    return nll(tokens)\n\n\nloss.needs_reference = True",
        r"loss\.needs_reference is not read; .* loss\.models = \('initial',\), and reads them by tokens\.logprobs_of\('initial'\)",
    ),
    "a model that is not named": (
        "def loss(tokens):\n    return nll(tokens) - tokens.logprobs_of('initial')[:, 0]  # here",
        r"'initial' without naming it; give it the attribute models = \('initial',\)",
    ),
    "divergence of ours": (
        "def loss(tokens):\n    return formulas.reverse_kl(tokens)  # here",
        r"'initial' without naming it",
    ),
    "beside one that names": (
        "def extra(tokens):\n    return nll(tokens) * tokens.logprobs_of('initial')[:, 0]  # here\n\n\nloss = ReverseKL() + extra",
        r"'initial' without naming it",
    ),
    "models by a text": (
        "def loss(tokens):  # here\n    return nll(tokens)\n\n\nloss.models = 'initial'",
        r"models of a loss is 'initial'; it must be a tuple",
    ),
    "a teacher that is always there": (
        "def loss(tokens):  # here\n    return -jnp.sum(jnp.exp(tokens.logprobs_of('teacher')) * jax.nn.log_softmax(tokens.logits), axis=1)"
        "\n\n\nloss.models = ('teacher',)",
        r"does not ask where its distribution is known.* return jnp\.where\(tokens\.available\('teacher'\), losses, 0\.0\)",
    ),
    "reference in a class": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Loss):\n    def __call__(self, tokens):\n"
        "        return ReverseKL()(tokens)  # here\n\n\nloss = Mine()",
        r"'initial' without naming it",
    ),
    "models by a method": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine:  # here_class\n    def models(self):\n        return ()\n\n"
        "    def __call__(self, tokens):\n        return nll(tokens)\n\n\nloss = Mine()",
        "models of a loss is a method; it must be a tuple",
    ),
    "mask": ("def loss(tokens):\n    return nll(tokens) * tokens.mask  # here", "tokens.mask.*masking is the framework's"),
    "misspelt": ("def loss(tokens):\n    return nll(tokens) * (tokens.verdicts > 0)  # here", "did you mean verdict"),
    "by name": ("def loss(tokens):\n    return tokens['logits'][:, 0]  # here", "write tokens.logits"),
    "if": ("def loss(tokens):\n    return nll(tokens) if tokens.progress > 0.5 else 2 * nll(tokens)  # here", "jnp.where"),
    "while": ("def loss(tokens):\n    x = nll(tokens)\n    while x.sum() > 1:  # here\n        x = x / 2\n    return x", "branches on"),
    "assert": ("def loss(tokens):\n    assert (nll(tokens) > 0).all()  # here\n    return nll(tokens)", "assert"),
    "and": ("def loss(tokens):\n    return nll(tokens) * (tokens.progress > 0 and 1.0)  # here", "& and |"),
    "max": ("def loss(tokens):\n    return nll(tokens) * max(tokens.progress, 0.1)  # here", "jnp.maximum"),
    "any": ("def loss(tokens):\n    return nll(tokens) * any(tokens.verdict > 0)  # here", "branches on"),
    "float": ("def loss(tokens):\n    return nll(tokens) * float(tokens.progress)  # here", r"float\(\)"),
    "int": ("def loss(tokens):\n    return nll(tokens) * int(tokens.verdict[0])  # here", r"int\(\)"),
    "item": ("def loss(tokens):\n    return nll(tokens) * tokens.progress.item()  # here", r"\.item\(\)"),
    "tolist": ("def loss(tokens):\n    return jnp.array(nll(tokens).tolist())  # here", r"\.tolist\(\)"),
    "math": ("def loss(tokens):\n    return nll(tokens) * math.exp(-tokens.progress)  # here", r"use jnp\.exp"),
    "list index": ("def loss(tokens):\n    return [1.0, 2.0][tokens.span[0]] * nll(tokens)  # here", "index of a list"),
    "range": ("def loss(tokens):\n    return sum(nll(tokens) for _ in range(tokens.span[0]))  # here", "whole number of Python"),
    "condition as index": ("def loss(tokens):\n    return nll(tokens)[tokens.verdict > 0]  # here", r"jnp.where\(condition"),
    "nonzero": ("def loss(tokens):\n    return nll(tokens)[jnp.nonzero(tokens.verdict)[0]]  # here", "jnp.where"),
    "numpy": ("def loss(tokens):\n    return -np.log(jnp.exp(-nll(tokens)))  # here", "instead of numpy"),
    "numpy array": ("def loss(tokens):\n    return jnp.asarray(np.asarray(nll(tokens)) * 2)  # here", "instead of numpy"),
    "assignment": ("def loss(tokens):\n    x = nll(tokens)\n    x[0] = 0.0  # here\n    return x", r"x\.at\[index\]"),
    "torch": ("def loss(tokens):\n    return nll(tokens).detach()  # here", r"asks an array for \.detach"),
    "name": ("def loss(tokens):\n    return nlll(tokens)  # here", "NameError"),
    "import": ("def loss(tokens):\n    import no_such_module  # here\n    return nll(tokens)", "ModuleNotFoundError"),
    "raises": ("def loss(tokens):\n    raise RuntimeError('not yet')  # here", "RuntimeError: not yet"),
    "raises nothing known": ("class Own(BaseException):\n    pass\n\n\ndef loss(tokens):\n    raise Own()  # here", "Own"),
    "exits": ("def loss(tokens):\n    raise SystemExit(3)  # here", "SystemExit"),
    "recursion": ("def loss(tokens):\n    return loss(tokens)  # here", "RecursionError"),
    "no argument": ("def loss():  # here\n    return 0.0", "one argument"),
    "two arguments": ("def loss(logits, target):  # here\n    return logits[:, 0]", r"loss\(logits, target\)"),
    "keyword alone": ("def loss(tokens, *, beta):  # here\n    return beta * nll(tokens)", "one argument"),
    "partial": (
        "def inner(tokens, beta, gamma):  # here\n    return beta * nll(tokens)\n\n\nloss = functools.partial(inner, beta=1.0)",
        "one argument",
    ),
    "call without tokens": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Loss):  # here_class\n    def __call__(self):\n        return 0.0\n\n\nloss = Mine()",
        "one argument",
    ),
    "subclass without a call": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Loss):  # here_class\n    beta: float = 1.0\n\n\nloss = Mine()",
        "NotImplementedError",
    ),
    "a class": ("@dataclasses.dataclass(frozen=True)\nclass loss(Loss):\n    beta: float = 1.0", r"is the class loss.*write loss\(\)"),
    "no rule": ("@jax.custom_jvp\ndef loss(tokens):\n    return nll(tokens)", "defjvp"),
    "no rules": ("@jax.custom_vjp\ndef loss(tokens):\n    return nll(tokens)", "defvjp"),
    "loop": (
        "def loss(tokens):  # here\n    return jax.lax.while_loop(lambda x: x.sum() < 3, lambda x: 2 * x, nll(tokens))",
        "cannot be differentiated",
    ),
    "callback": (
        "def loss(tokens):\n    x = nll(tokens)\n"
        "    return jax.pure_callback(lambda y: np.asarray(y), jax.ShapeDtypeStruct(x.shape, x.dtype), x)  # here",
        "pure_callback",
    ),
    "keeps and uses": (
        "SEEN = []\n\n\ndef loss(tokens):\n    SEEN.append(nll(tokens))\n    return sum(x.sum() for x in SEEN) + nll(tokens)",
        "beyond it",
    ),
    "keeps": ("SEEN = []\n\n\ndef loss(tokens):  # here\n    SEEN.append(nll(tokens))\n    return nll(tokens)", "beyond it"),
    "caches arrays by size": (
        "ONES = {}\n\n\ndef loss(tokens):  # here\n    size = len(tokens.target)\n    if size not in ONES:\n"
        "        ONES[size] = jnp.ones(size)\n    return nll(tokens) * ONES[size]",
        "beyond it",
    ),
    "random": ("def loss(tokens):  # here\n    return nll(tokens) * random.random()", "something else each time"),
    "random arrays": (
        "def loss(tokens):  # here\n    return nll(tokens) + np.random.normal(size=len(tokens.target)).astype('f')",
        "something else each time",
    ),
    "random and jitted": ("@jax.jit\ndef loss(tokens):\n    return nll(tokens) * random.random()", "something else each time"),
    "counter": (
        "STATE = {'step': 0}\n\n\ndef loss(tokens):  # here\n    STATE['step'] += 1\n    return nll(tokens) * STATE['step']",
        "tokens.progress",
    ),
    "clock": ("import time\n\n\ndef loss(tokens):  # here\n    return nll(tokens) * (time.perf_counter() % 1)", "times"),
    "other dtype": ("def loss(tokens):  # here\n    return nll(tokens).astype(jnp.int8)", "int8"),
    "in a sum": ("def mean(tokens):  # here\n    return nll(tokens).mean()\n\n\nloss = Nll() + 0.1 * ReverseKL() + mean", "mean returns shape"),
    "scaled": ("def mean(tokens):  # here\n    return nll(tokens).mean()\n\n\nloss = Weighted(0.5, mean)", "mean returns shape"),
    "selected": (
        "def mean(tokens):  # here\n    return nll(tokens).mean()\n\n\nloss = OnSpans(OnCorrect(OnIncorrect(mean)))",
        "mean returns shape",
    ),
    "constant in a sum": ("def bonus(tokens):  # here\n    return 1.0 * tokens.verdict\n\n\nloss = Nll() + bonus", "bonus does not depend"),
    "decorated": (
        "def logged(function):\n    @functools.wraps(function)\n    def inner(tokens):\n        return function(tokens).mean()\n\n"
        "    return inner\n\n\n@logged\ndef loss(tokens):\n    return nll(tokens)",
        "one number",
    ),
    "async": ("async def loss(tokens):  # here\n    return nll(tokens)", "nobody awaits"),
    "generator": ("def loss(tokens):  # here\n    yield nll(tokens)", "returns a generator"),
    "formats": ("def loss(tokens):\n    print(f'{tokens.progress:.2f}')  # here\n    return nll(tokens)", "jax.debug.print"),
    "sorts": ("def loss(tokens):\n    return jnp.stack(sorted(nll(tokens)))  # here", "sorted"),
    "caches": (
        "@functools.lru_cache\ndef half(x):\n    return x / 2\n\n\ndef loss(tokens):\n    return half(nll(tokens))  # here",
        "as the argument of a cached function",
    ),
    "eight bits": ("def loss(tokens):  # here\n    return nll(tokens).astype(jnp.float8_e4m3fn)", "too coarse"),
    "value and gradient": (
        "def loss(tokens):  # here\n    return jax.value_and_grad(lambda x: nll(tokens._replace(logits=x)).sum())(tokens.logits)",
        "returns a tuple of 2",
    ),
    "mapped": ("loss = jax.vmap(lambda tokens: tokens.logits[0])", "vmap"),
    "a sum over devices": ("def loss(tokens):\n    return jax.lax.psum(nll(tokens), 'data')  # here", "NameError.*axis"),
    "counts in itself": (
        "@dataclasses.dataclass\nclass Mine(Loss):  # here_class\n    calls: int = 0\n\n    def __call__(self, tokens):\n"
        "        self.calls += 1\n        return nll(tokens)\n\n\nloss = Mine()",
        "changes its own fields",
    ),
    "lambda": ("loss = lambda tokens: nll(tokens).mean()  # here", "one number"),
    "no loss in a sum": ("loss = Sum((Nll(), 0.1))", "terms.1 is 0.1; it must be a loss"),
    "sum of nothing": ("loss = Sum(())", "sum of nothing"),
    "no term counts": ("loss = 0.0 * Nll() + Weighted(0, nll)", "nothing would be trained"),
    "no span": ("loss = OnSpans(Nll(), False, False, False)", "nothing would be trained"),
    "coefficient nan": ("loss = Weighted(math.nan, nll)", "coefficient: it is nan"),
    "coefficient function": ("def rising(progress):\n    return progress\n\n\nloss = Weighted(rising, nll)", "coefficient.*Schedule"),
    "coefficient text": ("loss = Weighted('0.1', nll)", "a coefficient is a number or a schedule"),
}  # fmt: skip

SCHEDULE = """
@dataclasses.dataclass(frozen=True)
class Mine(Schedule):  # here_class
    def __call__(self, progress):
        {body}


loss = Weighted(Mine(), nll)
"""

SCHEDULES = {
    "branch": ("return 1.0 if progress > 0.5 else 0.0  # here", "jnp.where"),
    "numpy": ("return np.exp(progress)  # here", "instead of numpy"),
    "math": ("return math.sin(progress)  # here", r"jnp\.sin"),
    "nothing": ("pass", "returns nothing"),
    "text": ("return '0.1'", "returns a str"),
    "tuple": ("return (progress, 1.0)", "a tuple of 2"),
    "array": ("return jnp.ones(3) * progress", r"shape \[3\]"),
    "boolean": ("return progress > 0.5", "booleans"),
    "integer": ("return (progress * 10).astype(int)", "int32"),
    "complex": ("return progress * 1j", "complex64"),
    "infinite at the start": ("return 1.0 / progress", "inf at progress 0"),
    "not a number at the end": ("return jnp.log(-(progress - 1.0)) * 0.0", "nan at progress 1"),
    "random": ("return progress * random.random()", "something else each time"),
    "raises": ("raise KeyError('decay')  # here", "KeyError"),
    "missing": ("return self.start * progress  # here", "start"),
}

WEIGHTS = """
@dataclasses.dataclass(frozen=True)
class Mine(TokenWeights):  # here_class
    def __call__(self, span, verdict, teacher_logprob, weight):
        {body}


loss, weights = nll, Mine()
"""

OF_WEIGHTS = {
    "sum": ("return weight.sum()", r"shape \[\]"),
    "branch": ("return weight if verdict.sum() > 0 else 0 * weight  # here", "jnp.where"),
    "nothing": ("pass", "returns nothing"),
    "booleans": ("return weight > 0", "booleans"),
    "unsupervised": ("return jnp.where(span == 2, 2.0, 1.0)", "not supervised"),
    "nan": ("return weight * jnp.exp(teacher_logprob)", "not finite"),
    "random": ("return weight * random.random()", "something else each time"),
    "raises": ("return weight * self.beta  # here", "beta"),
}

RIGHT = {
    "function": "loss = nll",
    "prints losses": "def loss(tokens):\n    jax.debug.print('{}', nll(tokens))\n    return nll(tokens)",
    "jitted": "loss = jax.jit(nll)",
    "jitted by a decorator": "@jax.jit\ndef loss(tokens):\n    return nll(tokens)",
    "jitted inside": "inner = jax.jit(nll)\n\n\ndef loss(tokens):\n    return inner(tokens) ** 2",
    "partial": "def inner(tokens, beta):\n    return beta * nll(tokens)\n\n\nloss = functools.partial(inner, beta=0.5)",
    "default": "def loss(tokens, beta=2.0):\n    return beta * nll(tokens)",
    "any arguments": "def loss(*tokens):\n    return nll(tokens[0])",
    "decorated": (
        "def logged(function):\n    @functools.wraps(function)\n    def inner(tokens):\n        return function(tokens)\n\n"
        "    return inner\n\n\n@logged\ndef loss(tokens):\n    return nll(tokens)"
    ),
    "decorated without wraps": (
        "def twice(function):\n    def inner(tokens):\n        return 2 * function(tokens)\n\n    return inner\n\n\nloss = twice(nll)"
    ),
    "caches numbers by size": (
        "ONES = {}\n\n\ndef loss(tokens):\n    size = len(tokens.target)\n    if size not in ONES:\n"
        "        ONES[size] = np.ones(size, 'f')\n    return nll(tokens) * ONES[size]"
    ),
    "cached": "@functools.cache\ndef table():\n    return np.linspace(0, 1, 4, dtype='f')\n\n\n"
    "def loss(tokens):\n    return nll(tokens) * jnp.asarray(table())[tokens.span]",
    "custom jvp": (
        "@jax.custom_jvp\ndef loss(tokens):\n    return nll(tokens)\n\n\n@loss.defjvp\ndef rule(primals, tangents):\n"
        "    (tokens,), (slope,) = primals, tangents\n    return nll(tokens), jnp.sum(slope.logits, axis=-1)"
    ),
    "custom vjp": (
        "@jax.custom_vjp\ndef clipped(x):\n    return x\n\n\n"
        "clipped.defvjp(lambda x: (x, None), lambda _, slope: (jnp.clip(slope, -1, 1),))\n\n\n"
        "def loss(tokens):\n    return nll(tokens._replace(logits=clipped(tokens.logits)))"
    ),
    "dataclass": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    beta: float = 0.3\n\n    def __call__(self, tokens):\n"
        "        return self.beta * nll(tokens)\n\n\nloss = Mine()"
    ),
    "subclass": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Loss):\n    beta: float = 0.3\n\n    def __call__(self, tokens):\n"
        "        return self.beta * nll(tokens)\n\n\nloss = Nll() - 2.0 * Mine() + OnCorrect(Mine(0.1))"
    ),
    "not frozen": (
        "@dataclasses.dataclass\nclass Mine(Loss):\n    beta: float = 0.3\n\n    def __call__(self, tokens):\n"
        "        return self.beta * nll(tokens)\n\n\nloss = Mine()"
    ),
    "holds arrays": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Loss):\n    table: object\n\n    def __call__(self, tokens):\n"
        "        return self.table[tokens.span] * nll(tokens)\n\n\nloss = Mine(jnp.arange(4.0)) + Mine(jnp.ones(4))"
    ),
    "holds a list": (
        "@dataclasses.dataclass\nclass Mine(Loss):\n    factors: list\n\n    def __call__(self, tokens):\n"
        "        return self.factors[0] * nll(tokens)\n\n\nloss = Mine([2.0])"
    ),
    "holds a loss": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Loss):\n    inner: object\n\n    @property\n"
        "    def models(self):\n        return models_of(self.inner)\n\n    def __call__(self, tokens):\n"
        "        return 2 * self.inner(tokens)\n\n\nloss = Mine(ReverseKL())"
    ),
    "names a model": (
        "def loss(tokens):\n    return nll(tokens) + jnp.mean((tokens.logits - tokens.logprobs_of('initial')) ** 2, axis=-1)\n\n\n"
        "loss.models = ('initial',)"
    ),
    "names two models": (
        "def loss(tokens):\n    gap = tokens.logprobs_of('0-small.correct') - tokens.logprobs_of('initial')\n"
        "    return -jnp.sum(jax.nn.softmax(gap) * jax.nn.log_softmax(tokens.logits), axis=-1)\n\n\n"
        "loss.models = ['0-small.correct', 'initial']"
    ),
    "the teacher's most probable tokens": (
        "def loss(tokens):\n    best, ids = jax.lax.top_k(tokens.logprobs_of('teacher'), 4)\n"
        "    student = jnp.take_along_axis(jax.nn.log_softmax(tokens.logits), ids, axis=1)\n"
        "    return jnp.where(tokens.available('teacher'), -jnp.sum(jnp.exp(best) * student, axis=1), 0.0)\n\n\n"
        "loss.models = ('teacher',)"
    ),
    "divergences of ours from the teacher": (
        "@jax.jit\ndef loss(tokens):\n    return formulas.forward_kl(tokens, 'teacher') + formulas.jsd(tokens, 'teacher')\n\n\n"
        "loss.models = ('teacher',)"
    ),
    "names, decorated": (
        "def inner(tokens, beta):\n    return nll(tokens) + beta * tokens.logprobs_of('initial')[:, 0]\n\n\n"
        "inner.models = ('initial',)\n"
        "loss = jax.jit(functools.partial(inner, beta=0.1))"
    ),
    "names, by a class attribute": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    models = ('initial',)\n\n    def __call__(self, tokens):\n"
        "        return formulas.forward_kl(tokens)\n\n\nloss = Mine()"
    ),
    "with or without a model": (
        "def loss(tokens):\n    if 'initial' not in tokens.models:\n        return nll(tokens)\n"
        "    return nll(tokens) + formulas.reverse_kl(tokens)"
    ),
    "half precision": "def loss(tokens):\n    return nll(tokens).astype(jnp.bfloat16)",
    "mixes tokens": "def loss(tokens):\n    x = nll(tokens)\n    return x / jax.lax.stop_gradient(jnp.mean(x))",
    "prints": "def loss(tokens):\n    print(tokens.logits.shape)\n    jax.debug.print('{}', tokens.progress)\n    return nll(tokens)",
    "conditional": "def loss(tokens):\n    return jax.lax.cond(tokens.progress > 0.5, nll, lambda t: 2 * nll(t), tokens)",
    "scan": (
        "def loss(tokens):\n    _, found = jax.lax.scan(lambda c, x: (c, -jax.nn.log_softmax(x[0])[x[1]]), None, "
        "(tokens.logits, tokens.target))\n    return found"
    ),
    "vmap": (
        "def one(logits, target):\n    return jax.nn.logsumexp(logits) - logits[target]\n\n\n"
        "def loss(tokens):\n    return jax.vmap(one)(tokens.logits, tokens.target)"
    ),
    "remat": "loss = jax.checkpoint(nll)",
    "gradient of a gradient": (
        "def loss(tokens):\n    slope = jax.grad(lambda x: nll(tokens._replace(logits=x)).sum())(tokens.logits)\n"
        "    return nll(tokens) + jnp.sum(slope ** 2, axis=-1)"
    ),
    "jax's own random numbers": (
        "def loss(tokens):\n    noise = jax.random.normal(jax.random.key(0), tokens.logits.shape)\n"
        "    return nll(tokens._replace(logits=tokens.logits + 0.1 * noise))"
    ),
    "top of the vocabulary": (
        "def loss(tokens):\n    return -jnp.sum(jax.lax.top_k(jax.nn.log_softmax(tokens.logits), 4)[0], axis=-1)"
    ),
    "a vector of another vocabulary": "RARE = np.ones(50257, 'f')\n\n\ndef loss(tokens):\n    return nll(tokens._replace(logits=tokens.logits * RARE))",
    "a matrix of another vocabulary": "RARE = np.ones((32, 4), 'f')\n\n\ndef loss(tokens):\n    return nll(tokens) + (tokens.logits @ RARE).sum(-1)",
    "zero beside others": "def off(tokens):\n    return 0.0 * nll(tokens)\n\n\nloss = Nll() + off",
    "schedule": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Schedule):\n    def __call__(self, progress):\n"
        "        return jnp.where(progress > 0.5, 1.0, 0.0)\n\n\nloss = Mine() * Nll() + Weighted(Mine(), nll)"
    ),
    "schedule of a number": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(Schedule):\n    def __call__(self, progress):\n        return 1\n\n\n"
        "loss = Weighted(Mine(), nll)"
    ),
    "weights": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(TokenWeights):\n    def __call__(self, span, verdict, teacher_logprob, weight):\n"
        "        weight = super().__call__(span, verdict, teacher_logprob, weight)\n"
        "        return weight * jnp.where(span == 2, 3.0, 1.0)\n\n\nloss, weights = nll, Mine(confidence_gamma=0.5)"
    ),
    "weights of one's own": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(TokenWeights):\n    def __call__(self, span, verdict, teacher_logprob, weight):\n"
        "        return weight / jnp.maximum(weight.sum(), 1.0)\n\n\nloss, weights = nll, Mine()"
    ),
}  # fmt: skip
