"""The properties that `make_properties` prints: what each one means, and the tests that show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Property:
    """One column.

    Attributes:
        name: a few words.
        meaning: what is promised.
        optimizers: the tests of optimizers: ``file``, ``file::test``, or ``file::test[pattern]`` for some parameters.
        wrappers: the tests of wrappers.
    """

    name: str
    meaning: str
    optimizers: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()

    def tests(self, table: str) -> tuple[str, ...]:
        """Return the tests of ``"optimizers"`` or ``"wrappers"``."""
        return self.optimizers if table == "optimizers" else self.wrappers


CONTRACT, COMPAT, STATE, PATHS = "test_contract", "test_torch_compat", "test_state", "test_paths"
WRAPPERS, MORE = "test_wrappers", "test_properties_wrappers"

PROPERTIES = (
    Property(
        "golden",
        "equals trajectories recorded from the authors' code or an independent one, on every path",
        (
            "test_golden::test_trajectory",
            "test_golden_adahessian::test_trajectory",
            "test_golden_epoch::test_trajectory",
        ),
        tuple(f"test_golden_kinds::test_{x}" for x in ("lookahead", "sam", "pcgrad", "pcgrad_outcomes", "function")),
    ),
    Property(
        "equations",
        "parameters and state equal a float64 transcription of the paper over 20 steps; "
        "a wrapper without effect is the optimizer inside",
        ("test_equations::test_oracle",),
        (
            f"{WRAPPERS}::test_neutral_options_give_the_optimizer_inside",
            f"{MORE}::test_gradients_are_those_of_the_function",
        ),
    ),
    Property(
        "torch twin",
        "without blocks and extras it is the optimizer of torch that it derives from",
        ("test_equations::test_equals_torch_when_elementwise",),
    ),
    Property(
        "paths",
        "`foreach` equals `loop` bit for bit; `compiled` to rounding, without a compilation after the second step",
        (
            f"{PATHS}::test_foreach_is_loop_bit_for_bit",
            f"{PATHS}::test_auto_is_an_eager_path",
            f"{PATHS}::test_chunks_change_nothing",
            f"{PATHS}::test_compiled_is_loop_and_never_recompiles",
            f"{PATHS}::test_without_a_compiler_one_warning_and_the_same_result",
        ),
        (f"{MORE}::test_paths_of_the_optimizer_inside_agree",),
    ),
    Property(
        "precision",
        "float32 follows float64; bfloat16 parameters have float32 arithmetic and state",
        (f"{PATHS}::test_float32_is_close_to_float64", f"{PATHS}::test_bfloat16_is_float32_rounded"),
        (f"{WRAPPERS}::test_dtypes_stay",),
    ),
    Property(
        "strides",
        "channels_last, transposed and non-contiguous parameters and gradients",
        (f"{CONTRACT}::test_strides_do_not_matter",),
        (f"{MORE}::test_strides_do_not_matter",),
    ),
    Property(
        "closure",
        "called with gradients enabled, its loss returned",
        (f"{CONTRACT}::test_closure_runs_with_gradients",),
        (f"{WRAPPERS}::test_closure_is_called_with_gradients_and_its_loss_returned",),
    ),
    Property(
        "no gradient",
        "parameters without a gradient stay, and get no state",
        (f"{CONTRACT}::test_missing_gradients_are_skipped",),
        (f"{WRAPPERS}::test_nothing_happens_without_gradients", f"{MORE}::test_late_and_thawed_parameters"),
    ),
    Property(
        "zero gradient",
        "gives no NaN and stops nothing; with lr = 0 it changes no bit",
        (f"{CONTRACT}::test_zero_gradients_give_no_nan", f"{CONTRACT}::test_zero_lr_and_zero_grad_is_a_no_op"),
        (
            f"{MORE}::test_zero_rows_and_zero_gradients_give_no_nan[all-*]",
            f"{WRAPPERS}::test_zero_rate_and_zero_gradients_change_no_weight",
        ),
    ),
    Property(
        "lr = 0",
        "changes no bit of a parameter, whatever the gradient",
        (f"{CONTRACT}::test_zero_lr_is_a_no_op", f"{COMPAT}::test_scheduler_with_tensor_lr"),
        (f"{MORE}::test_zero_lr_is_a_no_op",),
    ),
    Property(
        "late, thawed",
        "a parameter whose first gradient comes late, or that was frozen, moves as it would have moved alone",
        (f"{COMPAT}::test_group_added_and_parameter_thawed_later[*thawed*]", "test_equations::test_oracle"),
        (f"{MORE}::test_late_and_thawed_parameters",),
    ),
    Property(
        "two groups",
        "each group has its own options",
        ("test_equations::test_oracle[*-kinds-*]",),
        (f"{MORE}::test_two_groups_are_two_optimizers",),
    ),
    Property(
        "add_param_group",
        "a group that is added later counts its own steps",
        (
            f"{COMPAT}::test_group_added_and_parameter_thawed_later[*added*]",
            f"{COMPAT}::test_a_group_added_later_counts_its_own_steps",
        ),
        (f"{WRAPPERS}::test_a_group_added_later_moves", f"{WRAPPERS}::test_a_group_added_inside_moves"),
    ),
    Property(
        "maximize",
        "is the step for the negated gradient",
        (f"{CONTRACT}::test_maximize_is_the_negated_gradient",),
        (f"{MORE}::test_maximize_is_the_negated_loss",),
    ),
    Property("tensor lr", "equals a float", (f"{CONTRACT}::test_tensor_lr",), (f"{MORE}::test_tensor_lr",)),
    Property(
        "deepcopy",
        "the copy continues alike, and alone",
        (f"{STATE}::test_copies_continue_alike[*deepcopy*]",),
        (f"{WRAPPERS}::test_copies_continue_alike_and_alone[*deepcopy*]",),
    ),
    Property(
        "pickle",
        "the copy continues alike, and alone",
        (f"{STATE}::test_copies_continue_alike[*pickle*]",),
        (f"{WRAPPERS}::test_copies_continue_alike_and_alone[*pickle*]",),
    ),
    Property(
        "resume",
        "from `torch.save` and `torch.load(weights_only=True)`, at every step, bit for bit",
        (f"{STATE}::test_resume_at_every_step",),
        (f"{WRAPPERS}::test_resume_at_every_step",),
    ),
    Property(
        "state at rest",
        "loading restores declared dtypes and shares no storage",
        (f"{STATE}::test_dtypes_at_rest_survive_loading", f"{STATE}::test_loading_shares_no_storage"),
        (f"{WRAPPERS}::test_dtypes_stay", f"{WRAPPERS}::test_loading_shares_no_storage"),
    ),
    Property(
        "hooks",
        "around the step, saving and loading, each once and in order",
        (f"{CONTRACT}::test_step_hooks_run_in_order", f"{STATE}::test_hooks_see_what_they_should"),
        (f"{WRAPPERS}::test_hooks_of_wrapper_and_inside_run_once", f"{WRAPPERS}::test_state_dict_hooks"),
    ),
    Property(
        "schedulers",
        "every one of `torch.optim.lr_scheduler` acts, on lr and on the momentum that it cycles",
        (f"{COMPAT}::test_scheduled_options_act",),
        (f"{MORE}::test_scheduled_options_act", f"{WRAPPERS}::test_schedulers"),
    ),
    Property(
        "GradScaler",
        "an infinite gradient skips the step and lowers the scale",
        (f"{COMPAT}::test_grad_scaler_skips_infinite_gradients",),
        (f"{WRAPPERS}::test_grad_scaler_skips_infinite_gradients",),
    ),
    Property(
        "checkpoint",
        "`torch.distributed.checkpoint`: get and set the state dict, then continue bit for bit",
        (f"{COMPAT}::test_distributed_checkpoint_state_dict",),
        (f"{WRAPPERS}::test_distributed_checkpoint_state_dict",),
    ),
    Property(
        "aliases",
        "`p.grad` is left as it is, and changing it after the step changes no state",
        (f"{CONTRACT}::test_grad_is_read_only_and_not_kept",),
        (f"{MORE}::test_gradients_are_not_kept", f"{WRAPPERS}::test_gradients_are_left_as_backward_left_them"),
    ),
    Property(
        "zero rows",
        "rows of zeros in weights and gradients give no NaN, with eps = 0 too",
        (f"{CONTRACT}::test_zero_rows_give_no_nan",),
        (f"{MORE}::test_zero_rows_and_zero_gradients_give_no_nan[some-*]",),
    ),
    Property(
        "0-d, empty",
        "parameters without dims, and without entries",
        (f"{CONTRACT}::test_empty_and_zero_dim_parameters",),
        (f"{MORE}::test_empty_and_zero_dim_parameters",),
    ),
    Property(
        "misspelt",
        "an unknown keyword is refused; unknown keys of a group are not",
        (f"{CONTRACT}::test_misspelt_option_is_refused", f"{CONTRACT}::test_foreign_group_keys_are_tolerated"),
        (f"{WRAPPERS}::test_refusals",),
    ),
    Property(
        "invalid",
        "every option out of bounds is refused, in the constructor and in groups, with its value and the bound",
        (f"{CONTRACT}::test_refusals", "test_completeness::test_every_option_is_checked_and_tested"),
        tuple(
            f"{WRAPPERS}::{x}"
            for x in ("test_refusals", "test_refusals_in_groups", "test_every_option_is_refused_in_some_test")
        ),
    ),
    Property(
        "sparse",
        "a sparse gradient is refused with the name of its parameter before anything changes, or it works",
        (f"{CONTRACT}::test_sparse_gradient_is_refused_before_anything_changes",),
        (f"{MORE}::test_sparse_gradients_are_refused_by_name_or_work",),
    ),
    Property(
        "complex",
        "a complex parameter is refused by name, or it works",
        (f"{CONTRACT}::test_complex_parameter_is_refused",),
        (f"{MORE}::test_complex_parameters_are_refused_by_name_or_work",),
    ),
    Property(
        "partitions",
        "blocks are what `channel_dims` and `channel_groups` say, at every step, and independent of each other",
        ("test_partition",),
    ),
    Property(
        "learns",
        "solves a quadratic, and finds the direction of a normalized weight",
        ("test_learns",),
    ),
)
