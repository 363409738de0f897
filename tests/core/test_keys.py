import jax
import numpy as np

from w2sr_jax.core.keys import generator, key, keys, words


def data(k):
    return np.asarray(jax.random.key_data(k))


def test_a_key_depends_on_every_argument_and_on_nothing_else():
    reference = data(key(0, "sample", "teacher", "problem", 3))
    assert np.array_equal(reference, data(key(0, "sample", "teacher", "problem", 3)))
    others = [
        key(1, "sample", "teacher", "problem", 3),
        key(0, "init", "teacher", "problem", 3),
        key(0, "sample", "teacher", "problem", 4),
        key(0, "sample", "teacher", "problem", "3"),
        key(0, "sample", "teacherproblem", 3),
        key(0, "sample", "teacher", "problem"),
    ]
    assert len({reference.tobytes(), *(data(other).tobytes() for other in others)}) == 7


def test_keys_of_a_batch_are_the_single_keys_in_any_order():
    ids = [("a", 0), ("b", 1), ("c", 2)]
    batch = data(keys(5, "p", ids))
    assert np.array_equal(batch, np.stack([data(key(5, "p", *i)) for i in ids]))
    assert np.array_equal(batch[::-1], data(keys(5, "p", ids[::-1])))


def test_no_ids_give_no_keys():
    assert keys(0, "p", []).shape == (0,)


def test_draws_look_uniform_over_ids():
    draws = np.asarray(jax.vmap(jax.random.uniform)(keys(0, "u", [(i,) for i in range(4000)])))
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(draws.std() - 12**-0.5) < 0.01


def test_host_generators_are_stable_across_platforms():
    assert generator(0, "x", 1).integers(0, 1000, 4).tolist() == generator(0, "x", 1).integers(0, 1000, 4).tolist()
    assert words(0, "x", 1) == (3787310457, 119759086, 3987478822, 2166806625)
