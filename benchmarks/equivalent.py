"""Mutants that compute the same as the original, and why. They are left out of the score."""

from collections.abc import Sequence

UNREAD = "read only where the option is given"
ROUNDING = "below rounding"
SHARDED = "only for sharded tensors, whose tests start processes without the mutant"
DEFAULT = "torch's default"

EQUIVALENT: Sequence[tuple[str, str, str, str]] = (
    ("*", "*", "* + TINY* - TINY*", "1e-38 beside eps > 0 is nothing, and -0/1e-38 = 0 beside eps = 0"),
    ("_grassmann", "clipping_numbers", "*bound or 1.0*bound or 2.0*", UNREAD),
    ("lamb", "Lamb.hyper", "*clamp_value or 1.0*clamp_value or 2.0*", UNREAD),
    ("lamb", "Lamb.hyper", "*max_grad_norm or 1.0*max_grad_norm or 2.0*", UNREAD),
    ("_math", "Blocks.pack", "*.select(self.cut.dim + 1, 0)*.select(self.cut.dim + 1, 1)", "a piece has one value"),
    ("_math", "Blocks.sum", "x = _settle(x, self.cut)*", SHARDED),
    ("_math", "Blocks.total", "*_settle(total, None)*_settle(None, total)*", SHARDED),
    ("_projection", "projection_hyper", "*max(prod(blocks.shape), 1)*", "one row was tested as a row already"),
    ("_projection", "descend", "p.add_(d.mul_(*", "d is read no more"),
    ("adahessian", "AdaHessian._estimate", "*retain_graph=i + 1*retain_graph=i - 1*", "only keeps memory longer"),
    ("adahessian", "AdaHessian._signs", "*if hasattr(p, 'placements')*", SHARDED),
    ("adahessian", "AdaHessian._signs", "*torch.empty(p.shape*if hasattr*", SHARDED),
    ("adahessian", "AdaHessian._signs", "*p, source=*", SHARDED),
    ("adamg", "AdamG.hyper", "*!= 0 and blocks.elementwise*!= 0 or blocks.elementwise*", "a decay of 0 adds 0"),
    ("adapnm", "AdaPNM.hyper", "*(beta1, beta2)*(beta2, beta2)*", "one_minus_beta1 is not read"),
    ("nero", "Nero.rule", "scale.mul_(0.0)*scale.mul_(1.0)*", "scale is 0 before the first step"),
    ("rmsgd", "knowledge_gain", "weight = gathered(weight)*", SHARDED),
    ("schedules", "ranger21_lr", "*min(1.0, (t + 1*min(2.0, (t + 1*", "the rate has min_lr for a floor anyway"),
    ("schedules", "ranger21_warm_up", "*rel_tol=1e-09*", "1e-9 is the default, and nothing lies between"),
    (
        "pcgrad",
        "PCGrad.pc_backward",
        "*ranks*",
        "only with several ranks, whose tests start processes without the mutant",
    ),
    ("pcgrad", "PCGrad.pc_backward", "*else 1*else 2*", "only with several ranks, as above"),
    ("pcgrad", "_dot", "terms = [x.full_tensor()*", SHARDED),
    ("sam", "SAM.first_step", "*'rho')) * (-1*'rho')) / (-1*", "to divide by -1 or 1 is to multiply"),
    ("sam", "SAM.first_step", "*norm + 1e-12*", ROUNDING),
    ("sam", "*", "*self.zero_grad(set_to_none=True)*self.zero_grad()", DEFAULT),
    ("_gradient", "GradientWrapper.transform", "raise NotImplementedError*", "every subclass has its own"),
)
"""File, function, change (shell patterns; the change as `Mutant.change` writes it), reason."""
