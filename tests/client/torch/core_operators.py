"""Operators that torch tags as core, and that have no conversion."""

NO_GRADIENT = frozenset(
    {
        "aten._adaptive_avg_pool2d_backward.default",
        "aten.arange.start_step",
        "aten.avg_pool2d_backward.default",
        "aten.bitwise_and.Scalar",
        "aten.bitwise_or.Scalar",
        "aten.bitwise_xor.Scalar",
        "aten.convolution_backward.default",
        "aten.embedding_dense_backward.default",
        "aten.empty.memory_format",
        "aten.empty_strided.default",
        "aten.fill.Scalar",
        "aten.full.default",
        "aten.max_pool2d_with_indices_backward.default",
        "aten.native_group_norm_backward.default",
        "aten.native_layer_norm_backward.default",
        "aten.rand.default",
        "aten.randn.default",
        "aten.randperm.default",
        "aten.resize_.default",
        "aten.scalar_tensor.default",
    }
)
"""Operators without a derivative in a float: of constants, of integers, at random, or backward passes."""

NOT_YET_CONVERTED = frozenset(
    {
        "aten._fft_c2r.default",
        "aten._fft_r2c.default",
    }
)
"""Operators with a derivative for which the model language has no op yet: a name goes when its op comes."""
