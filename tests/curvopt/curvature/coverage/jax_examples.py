"""Small examples of jax's functions: a table, written as functions of `ARRAYS`.

An example takes the arrays that its parameters name, and those of real numbers are
differentiated. What is in no table is tried on the tuples of `AUTOMATIC`, in order.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special


_draw = np.random.default_rng(0).uniform

# Distinct, away from kinks and poles, and in the domain of most functions.
ARRAYS = {
    "v": np.array([0.31, 0.74, 0.52]),
    "w": np.array([0.63, 0.22, 0.87]),
    "x": np.array([0.45, 0.16, 0.71]),
    "p": np.array([1.3, 2.6, 1.9]),
    "s": np.array(0.37),
    # Its symmetric part is positive definite, and the eigenvalues are real and distinct.
    "m": np.array([[2.1, 0.3, 0.1], [0.4, 3.2, 0.2], [0.15, 0.25, 4.5]]),
    "n": np.array([[0.3, 0.8, 0.2], [0.5, 0.1, 0.9], [0.7, 0.4, 0.6]]),
    "t": _draw(0.1, 0.9, (2, 3, 3)),
    "image": _draw(0.1, 0.9, (1, 2, 4, 4)),
    "kernel": _draw(0.1, 0.9, (3, 2, 2, 2)),
    "heads": _draw(0.1, 0.9, (3, 2, 4)),
    "i": np.array([2, 0, 1]),
    "j": np.array([1, 2, 3]),
    "b": np.array([True, False, True]),
    "c": np.array([True, True, False]),
}

AUTOMATIC = tuple(
    tuple(names.split())
    for names in ("v", "m", "v w", "m n", "m v", "v w x", "i", "i j", "i v", "b")
)


def _over_axis(fn):
    """A function of arrays with a named axis, by `vmap`."""
    return lambda m: jax.vmap(fn, axis_name="a")(m)


def _sharded(fn):
    """A function of shards, on a mesh of one device."""

    def run(v):
        mesh = jax.make_mesh((1,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
        spec = jax.sharding.PartitionSpec("a")
        return jax.shard_map(fn, mesh=mesh, in_specs=spec, out_specs=spec)(v)

    return run


_GATHER = lax.GatherDimensionNumbers((), (0,), (0,))
_SCATTER = lax.ScatterDimensionNumbers((), (0,), (0,))
_RAGGED = lax.RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), [0], [0])
_INDICES = np.array([[2], [0]])


def _scatter(fn):
    return lambda v, w: fn(v, jnp.asarray(_INDICES), w[:2], _SCATTER)


def _solve(matvec, b):
    return jnp.linalg.solve(jax.jacobian(matvec)(b), b)


def _root(p):
    newton = lambda f, x: lax.fori_loop(
        0, 8, lambda _, x: x - f(x) / jax.jvp(f, (x,), (1 + 0 * x,))[1], x
    )
    linear = lambda g, y: y / g(jnp.ones_like(y))
    return lax.custom_root(lambda x: x**2 - p, jnp.ones(3), newton, linear)


EXAMPLES = {
    "jax.lax": {
        "acosh": lambda p: lax.acosh(p),
        "all_gather": _over_axis(lambda v: lax.all_gather(v, "a")),
        "all_to_all": _over_axis(lambda v: lax.all_to_all(v, "a", 0, 0)),
        "approx_max_k": lambda v: lax.approx_max_k(v, 2),
        "approx_min_k": lambda v: lax.approx_min_k(v, 2),
        "argmax": lambda v: lax.argmax(v, 0, int),
        "argmin": lambda v: lax.argmin(v, 0, int),
        "associative_scan": lambda m: lax.associative_scan(jnp.multiply, m),
        "axis_index": _over_axis(lambda v: v * lax.axis_index("a")),
        "axis_size": _over_axis(lambda v: v * lax.axis_size("a")),
        "batch_matmul": lambda t: lax.batch_matmul(t, t),
        "bitcast_convert_type": lambda v: lax.bitcast_convert_type(v, jnp.int64),
        "broadcast": lambda v: lax.broadcast(v, (2,)),
        "broadcast_in_dim": lambda v: lax.broadcast_in_dim(v, (2, 3), (1,)),
        "broadcast_to_rank": lambda v: lax.broadcast_to_rank(v, 2),
        "clamp": lambda v: lax.clamp(0.4, v, 0.7),
        "collapse": lambda m: lax.collapse(m, 0),
        "composite": lambda v: lax.composite(lambda v: jnp.sin(v) * v, "my.composite")(v),
        "concatenate": lambda v, w: lax.concatenate([v, w], 0),
        "cond": lambda v: lax.cond(v[0] > 0, jnp.sin, jnp.cos, v),
        "conj": lambda v, w: lax.conj(lax.complex(v, w)),
        "conv": lambda image, kernel: lax.conv(image, kernel, (1, 1), "SAME"),
        "conv_general_dilated": lambda image, kernel: lax.conv_general_dilated(
            image, kernel, (2, 1), ((1, 0), (0, 2)), (1, 2), (2, 1)
        ),
        "conv_general_dilated_local": lambda image: lax.conv_general_dilated_local(
            image, jnp.sin(jnp.arange(144.0)).reshape(2, 8, 3, 3), (1, 1), "VALID", (2, 2)
        ),
        "conv_general_dilated_patches": lambda image: lax.conv_general_dilated_patches(
            image, (2, 2), (1, 1), "VALID"
        ),
        "conv_transpose": lambda image, kernel: lax.conv_transpose(
            image, kernel, (2, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        ),
        "conv_with_general_padding": lambda image, kernel: lax.conv_with_general_padding(
            image, kernel, (1, 1), ((1, 0), (0, 1)), None, None
        ),
        "convert_element_type": lambda v: lax.convert_element_type(v, jnp.complex128),
        "custom_linear_solve": lambda m, v: lax.custom_linear_solve(
            partial(jnp.matmul, m), v, _solve, _solve
        ),
        "custom_root": _root,
        "dce_sink": lambda v: (lax.dce_sink(v), v * 2)[1],
        "dot_general": lambda m, n: lax.dot_general(m, n, (((0,), (1,)), ((), ()))),
        "dynamic_index_in_dim": lambda v: lax.dynamic_index_in_dim(v, 1),
        "dynamic_slice": lambda v: lax.dynamic_slice(v, (1,), (2,)),
        "dynamic_slice_in_dim": lambda v: lax.dynamic_slice_in_dim(v, 1, 2),
        "dynamic_update_index_in_dim": lambda v, s: lax.dynamic_update_index_in_dim(
            v, s, 1, 0
        ),
        "dynamic_update_slice": lambda v, w: lax.dynamic_update_slice(v, w[:2], (1,)),
        "dynamic_update_slice_in_dim": lambda v, w: lax.dynamic_update_slice_in_dim(
            v, w[:2], 1, 0
        ),
        "erf_inv": lambda v: lax.erf_inv(v),
        "expand_dims": lambda v: lax.expand_dims(v, (0,)),
        "fft": lambda v: lax.fft(v + 0j, "fft", (3,)),
        "fori_loop": lambda v: lax.fori_loop(0, 3, lambda k, h: jnp.sin(h) * v, v),
        "full_like": lambda v: lax.full_like(v, 2.0),
        "gather": lambda v: lax.gather(v, jnp.asarray(_INDICES), _GATHER, (1,)),
        "imag": lambda v, w: lax.imag(lax.complex(v, w)),
        "index_in_dim": lambda v: lax.index_in_dim(v, 1),
        "index_take": lambda v: lax.index_take(v, (jnp.array([2, 0]),), (0,)),
        "integer_pow": lambda v: lax.integer_pow(v, 3),
        "lgamma": lambda p: lax.lgamma(p),
        "map": lambda v: lax.map(jnp.sin, v),
        "optimization_barrier": lambda v: lax.optimization_barrier(v),
        "pad": lambda v, s: lax.pad(v, s, ((1, 2, 1),)),
        "pcast": _sharded(lambda v: v * lax.pcast(jnp.ones(3), "a", to="varying")),
        "platform_dependent": lambda v: lax.platform_dependent(v, default=jnp.sin),
        "pmax": _over_axis(lambda v: lax.pmax(v, "a")),
        "pmean": _over_axis(lambda v: lax.pmean(v, "a")),
        "pmin": _over_axis(lambda v: lax.pmin(v, "a")),
        "polygamma": lambda v: lax.polygamma(jnp.ones(3), v),
        "polynomial": lambda v, w: lax.polynomial(v, w),
        "ppermute": _over_axis(lambda v: lax.ppermute(v, "a", [(0, 1), (1, 2), (2, 0)])),
        "pshuffle": _over_axis(lambda v: lax.pshuffle(v, "a", [1, 2, 0])),
        "psum": _over_axis(lambda v: lax.psum(v, "a")),
        "psum_scatter": _over_axis(lambda v: lax.psum_scatter(v, "a")),
        "pswapaxes": _over_axis(lambda v: lax.pswapaxes(v, "a", 0)),
        "ragged_dot": lambda m, t: lax.ragged_dot(m, t, jnp.array([1, 2])),
        "ragged_dot_general": lambda m, t: lax.ragged_dot_general(
            m,
            t,
            jnp.array([1, 2]),
            _RAGGED,
        ),
        "real": lambda v, w: lax.real(lax.complex(v, w)),
        "reduce": lambda m: lax.reduce(m, 0.0, lax.add, (0,)),
        "reduce_and": lambda b: lax.reduce_and(b, (0,)),
        "reduce_max": lambda m: lax.reduce_max(m, (0,)),
        "reduce_min": lambda m: lax.reduce_min(m, (0,)),
        "reduce_or": lambda b: lax.reduce_or(b, (0,)),
        "reduce_precision": lambda v: lax.reduce_precision(v, 8, 23),
        "reduce_prod": lambda m: lax.reduce_prod(m, (0,)),
        "reduce_sum": lambda m: lax.reduce_sum(m, (0,)),
        "reduce_window": lambda m: (
            lax.reduce_window(m, 0.0, lax.add, (2, 2), (1, 1), "VALID"),
            lax.reduce_window(m, -jnp.inf, lax.max, (2, 2), (1, 1), "VALID"),
        ),
        "reduce_xor": lambda b: lax.reduce_xor(b, (0,)),
        "rem": lambda v: lax.rem(v, jnp.full(3, 0.4)),
        "reshape": lambda m: lax.reshape(m, (9,)),
        "rev": lambda v: lax.rev(v, (0,)),
        "rng_uniform": lambda v: lax.rng_uniform(0.0, v[0], (3,)),
        "rng_bit_generator": lambda j: lax.rng_bit_generator(
            jnp.arange(4, dtype=jnp.uint32), (3,)
        ),
        "scan": lambda v: lax.scan(lambda h, x: (jnp.sin(h) * x, h * v), v, v),
        "scatter": _scatter(lax.scatter),
        "scatter_add": _scatter(lax.scatter_add),
        "scatter_apply": lambda v: lax.scatter_apply(
            v, jnp.asarray(_INDICES), jnp.sin, _SCATTER, update_shape=(2,)
        ),
        "scatter_max": _scatter(lax.scatter_max),
        "scatter_min": _scatter(lax.scatter_min),
        "scatter_mul": _scatter(partial(lax.scatter_mul, unique_indices=True)),
        "scatter_sub": _scatter(lax.scatter_sub),
        "select": lambda b, v, w: lax.select(b, v, w),
        "select_n": lambda b, v, w: lax.select_n(b, v, w),
        "slice": lambda v: lax.slice(v, (1,), (3,)),
        "slice_in_dim": lambda v: lax.slice_in_dim(v, 1, 3),
        "split": lambda v: lax.split(v, (1, 2)),
        "squeeze": lambda v: lax.squeeze(v[:1], (0,)),
        "stack": lambda v, w: lax.stack([v, w]),
        "switch": lambda v: lax.switch(1, [jnp.cos, jnp.sin], v),
        "tile": lambda v: lax.tile(v, (2,)),
        "top_k": lambda v: lax.top_k(v, 2),
        "transpose": lambda m: lax.transpose(m, (1, 0)),
        "while_loop": lambda v: lax.while_loop(lambda h: h[0] < 2, lambda h: 2 * h, v),
        "with_sharding_constraint": lambda v: lax.with_sharding_constraint(
            v, jax.sharding.SingleDeviceSharding(jax.devices()[0])
        ),
        "zeta": lambda p, v: lax.zeta(p, v),
    },
    "jax.numpy": {
        "acosh": lambda p: jnp.acosh(p),
        "angle": lambda v, w: jnp.angle(v + 1j * w),
        "append": lambda v, w: jnp.append(v, w),
        "apply_along_axis": lambda m: jnp.apply_along_axis(jnp.cumsum, 0, m),
        "apply_over_axes": lambda m: jnp.apply_over_axes(jnp.sum, m, [0]),
        "arccosh": lambda p: jnp.arccosh(p),
        "argpartition": lambda v: jnp.argpartition(v, 1),
        "argwhere": lambda v: jnp.argwhere(v, size=3),
        "array_split": lambda v: jnp.array_split(v, 2),
        "astype": lambda v: jnp.astype(v, complex),
        "bincount": lambda i, v: jnp.bincount(i, v, length=3),
        "block": lambda m: jnp.block([[m, m], [m.T, m]]),
        "broadcast_arrays": lambda m, v: jnp.broadcast_arrays(m, v),
        "broadcast_to": lambda v: jnp.broadcast_to(v, (2, 3)),
        "choose": lambda i, v, w, x: jnp.choose(i, [v, w, x], mode="clip"),
        "clip": lambda v: jnp.clip(v, 0.4, 0.7),
        "column_stack": lambda v, w: jnp.column_stack([v, w]),
        "compress": lambda v: jnp.compress(np.array([True, False, True]), v, size=2),
        "concat": lambda v, w: jnp.concat([v, w]),
        "concatenate": lambda v, w: jnp.concatenate([v, w]),
        "conj": lambda v, w: jnp.conj(v + 1j * w),
        "conjugate": lambda v, w: jnp.conjugate(v + 1j * w),
        "delete": lambda v: jnp.delete(v, 1),
        "diag_indices_from": lambda m: jnp.diag_indices_from(m),
        "dsplit": lambda t: jnp.dsplit(t, 3),
        "dstack": lambda v, w: jnp.dstack([v, w]),
        "einsum": lambda m, n: jnp.einsum("ij,kj->ik", m, n),
        "expand_dims": lambda v: jnp.expand_dims(v, 0),
        "extract": lambda b, v: jnp.extract(b, v, size=2),
        "fill_diagonal": lambda m, s: jnp.fill_diagonal(m, s, inplace=False),
        "flatnonzero": lambda v: jnp.flatnonzero(v, size=3),
        "fromfunction": lambda v: jnp.fromfunction(lambda k: v * k, (3,)),
        "full_like": lambda v: jnp.full_like(v, 2.0),
        "gcd": lambda i, j: jnp.gcd(i, j),
        "geomspace": lambda p: jnp.geomspace(1.0, p, 4),
        "histogram": lambda v: jnp.histogram(v, 3),
        "histogramdd": lambda n: jnp.histogramdd(n, 3),
        "hsplit": lambda m: jnp.hsplit(m, 3),
        "hstack": lambda v, w: jnp.hstack([v, w]),
        "imag": lambda v, w: jnp.imag(v + 1j * w),
        "insert": lambda v, s: jnp.insert(v, 1, s),
        "interp": lambda v, w: jnp.interp(w, jnp.array([0.0, 0.5, 1.0]), v),
        "intersect1d": lambda v: jnp.intersect1d(v, v[1:], size=2),
        "isdtype": lambda v: jnp.isdtype(v.dtype, "real floating"),
        "ix_": lambda i, j: jnp.ix_(i, j),
        "kaiser": lambda s: jnp.kaiser(5, s),
        "ldexp": lambda v, i: jnp.ldexp(v, i),
        "linspace": lambda v, w: jnp.linspace(v, w, 4),
        "logspace": lambda v, w: jnp.logspace(v, w, 4),
        "matvec": lambda m, v: jnp.matvec(m, v),
        "meshgrid": lambda v, w: jnp.meshgrid(v, w),
        "mod": lambda v: jnp.mod(v, 0.4),
        "modf": lambda p: jnp.modf(p),
        "moveaxis": lambda m: jnp.moveaxis(m, 0, 1),
        "nanpercentile": lambda v: jnp.nanpercentile(v, 30.0),
        "nanquantile": lambda v: jnp.nanquantile(v, 0.3),
        "nonzero": lambda v: jnp.nonzero(v, size=3),
        "packbits": lambda b: jnp.packbits(b),
        "pad": lambda v: jnp.pad(v, 1, mode="reflect"),
        "partition": lambda v: jnp.partition(v, 1),
        "percentile": lambda v, s: jnp.percentile(v, 30 + s),
        "permute_dims": lambda m: jnp.permute_dims(m, (1, 0)),
        "piecewise": lambda v: jnp.piecewise(v, [v < 0.5], [jnp.sin, jnp.cos]),
        "place": lambda v, w, b: jnp.place(v, b, w, inplace=False),
        "polydiv": lambda v, w: jnp.polydiv(v, w),
        "polyfit": lambda v, w: jnp.polyfit(v, w, 1),
        "polyint": lambda v: jnp.polyint(v),
        "polyval": lambda v, w: jnp.polyval(v, w),
        "put": lambda v, w: jnp.put(v, np.array([0, 2]), w[:2], inplace=False),
        "put_along_axis": lambda v, w: jnp.put_along_axis(
            v, np.array([0, 2]), w[:2], 0, inplace=False
        ),
        "quantile": lambda v, s: jnp.quantile(v, s),
        "ravel_multi_index": lambda i, j: jnp.ravel_multi_index(
            (i, j), (4, 4), mode="clip"
        ),
        "real": lambda v, w: jnp.real(v + 1j * w),
        "remainder": lambda v: jnp.remainder(v, 0.4),
        "repeat": lambda v: jnp.repeat(v, 2),
        "reshape": lambda m: jnp.reshape(m, (9,)),
        "resize": lambda m: jnp.resize(m, (2, 5)),
        "roll": lambda v: jnp.roll(v, 1),
        "rollaxis": lambda m: jnp.rollaxis(m, 1),
        "roots": lambda v: jnp.roots(v, strip_zeros=False),
        "select": lambda b, c, v, w: jnp.select([b, c], [v, w], 0.3),
        "setdiff1d": lambda v, w: jnp.setdiff1d(v, w, size=3),
        "setxor1d": lambda v, w: jnp.setxor1d(v, w, size=6),
        "sort_complex": lambda v, w: jnp.sort_complex(v + 1j * w),
        "split": lambda v: jnp.split(v, 3),
        "stack": lambda v, w: jnp.stack([v, w]),
        "swapaxes": lambda m: jnp.swapaxes(m, 0, 1),
        "take": lambda v: jnp.take(v, jnp.array([2, 0])),
        "take_along_axis": lambda m, i: jnp.take_along_axis(m, i[:, None], 1),
        "tensordot": lambda m, n: jnp.tensordot(m, n, 1),
        "tile": lambda v: jnp.tile(v, 2),
        "top_k": lambda v: jnp.top_k(v, 2),
        "trim_zeros": lambda v: jnp.trim_zeros(v),
        "union1d": lambda v, w: jnp.union1d(v, w, size=6),
        "unique": lambda v: jnp.unique(v, size=3),
        "unique_all": lambda v: jnp.unique_all(v, size=3),
        "unique_counts": lambda v: jnp.unique_counts(v, size=3),
        "unique_inverse": lambda v: jnp.unique_inverse(v, size=3),
        "unique_values": lambda v: jnp.unique_values(v, size=3),
        "unpackbits": lambda i: jnp.unpackbits(i.astype(jnp.uint8)),
        "unravel_index": lambda i: jnp.unravel_index(i, (4, 4)),
        "vecmat": lambda v, m: jnp.vecmat(v, m),
        "vectorize": lambda v, w: jnp.vectorize(jnp.multiply)(v, w),
        "vsplit": lambda m: jnp.vsplit(m, 3),
        "vstack": lambda v, w: jnp.vstack([v, w]),
        "where": lambda b, v, w: jnp.where(b, v, w),
    },
    "jax.nn": {
        "dot_product_attention": lambda heads: jax.nn.dot_product_attention(
            heads, jnp.cos(heads), jnp.sin(heads), is_causal=True
        ),
        "glu": lambda image: jax.nn.glu(image),
        "log1mexp": lambda v: jax.nn.log1mexp(v),
        "one_hot": lambda i: jax.nn.one_hot(i, 3),
        "scaled_dot_general": lambda m, n: jax.nn.scaled_dot_general(
            m, n, (((1,), (0,)), ((), ()))
        ),
    },
    "jax.numpy.linalg": {
        "cross": lambda v, w: jnp.linalg.cross(v, w),
        "lstsq": lambda m, v: jnp.linalg.lstsq(m, v),
        "matrix_power": lambda m: jnp.linalg.matrix_power(m, 3),
        "multi_dot": lambda m, n: jnp.linalg.multi_dot([m, n, m]),
        "norm": lambda m: jnp.linalg.norm(m),
        "tensordot": lambda m, n: jnp.linalg.tensordot(m, n, axes=1),
        "tensorinv": lambda m: jnp.linalg.tensorinv(m, ind=1),
    },
    "jax.numpy.fft": {
        "hfft": lambda v, w: jnp.fft.hfft(v + 1j * w),
        "irfft": lambda v, w: jnp.fft.irfft(v + 1j * w),
        "irfft2": lambda m, n: jnp.fft.irfft2(m + 1j * n),
        "irfftn": lambda m, n: jnp.fft.irfftn(m + 1j * n),
    },
    "jax.scipy.special": {
        "bessel_jn": lambda v: special.bessel_jn(v, v=2, n_iter=20),
        "comb": lambda p, v: special.comb(p, v),
        "hyp2f1": lambda v: special.hyp2f1(0.5, 1.5, 2.5, v),
        "exp1": lambda v: special.exp1(v),
        "expn": lambda v: special.expn(2, v),
        "multigammaln": lambda p: special.multigammaln(p, 2),
        "polygamma": lambda v: special.polygamma(1, v),
        "sph_harm_y": lambda v, w: special.sph_harm_y(
            jnp.array([1, 2, 2]), jnp.array([0, 1, 2]), v, w, n_max=2
        ),
        "wofz": lambda v, w: special.wofz(v + 1j * w),
        "zeta": lambda p, v: special.zeta(p, v),
    },
}


def _helpers(**names: str) -> dict[str, str]:
    return {
        name: why.replace("_", " ") for why, own in names.items() for name in own.split()
    }


HELPERS = {
    "jax.lax": _helpers(
        type="ConvGeneralDilatedDimensionNumbers DotDimensionNumbers PrecisionLike",
        shapes="""broadcast_shapes conv_dimension_numbers conv_general_permutations
            conv_general_shape_tuple conv_shape_tuple conv_transpose_shape_tuple
            padtype_to_pads reduce_window_shape_tuple shape_as_value""",
        tokens="after_all create_token",
        a_new_array="broadcasted_iota empty full iota",
        dtypes="dtype",
    ),
    "jax.numpy": _helpers(
        type="ComplexWarning",
        shapes="broadcast_shapes einsum_path",
        dtypes="can_cast dtype finfo iinfo issubdtype promote_types result_type",
        printing="array_repr array_str get_printoptions printoptions set_printoptions",
        files_and_buffers="""from_dlpack frombuffer fromfile fromiter fromstring load save
            savez""",
        a_new_array="""arange bartlett blackman diag_indices empty eye full hamming hanning
            identity indices mask_indices ones tri tril_indices triu_indices zeros""",
        makes_functions="frompyfunc",
    ),
    "jax.nn": _helpers(options="get_scaled_dot_general_config"),
    "jax.numpy.linalg": {},
    "jax.numpy.fft": _helpers(a_new_array="fftfreq rfftfreq"),
    "jax.scipy.special": _helpers(a_new_array="bernoulli"),
}

# What takes several devices, or others than a CPU.
ELSEWHERE = {module: {} for module in EXAMPLES} | {
    "jax.lax": _helpers(
        several_devices="pbroadcast precv psend psum_scatter_start ragged_all_to_all",
    ),
    "jax.nn": _helpers(an_accelerator="scaled_matmul"),
}
