"""The certificate: proves true claims, refutes false ones, and leaves model and random state as they were."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from autogroup.certificate import certify, twin
from autogroup.errors import CaptureError, GroupError, InputError
from autogroup.partition import Partition
from autogroup.report import ParameterReport, Report
from tests.autogroup.netkit import IMAGE, TOKENS, Net, conv, linear, parameter, runs

ROWS = torch.zeros(8, 3)


def claim(model: nn.Module, **partitions: tuple[Any, ...] | Partition) -> Report:
    """A report that claims these partitions; double underscores in the keys stand for dots."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    parameters: dict[str, ParameterReport] = {}
    for key, keys in partitions.items():
        name = key.replace("__", ".")
        partition = keys if isinstance(keys, Partition) else Partition.from_dims(shapes[name], *keys)
        verdict = "invariant" if partition.covers else "partial"
        parameters[name] = ParameterReport(name, shapes[name], verdict, "", partition)
    return Report(parameters)


def status(model: nn.Module, args: tuple[Any, ...], **partitions: Any) -> dict[str, str]:
    found = certify(model, claim(model, **partitions), args)
    return {name: proof.status for name, proof in found.proofs.items()}


def conv_bn() -> Net:
    return Net(lambda m, x: m.bn(m.conv(x)), conv=conv(2, 4, 3, bias=True), bn=nn.BatchNorm2d(4))


def test_a_true_claim_is_proved_to_rounding() -> None:
    model = conv_bn()
    proof = certify(model, claim(model, conv__weight=((0,),)), (IMAGE,)).proofs["conv.weight"]
    assert (proof.status, proof.blocks, proof.undecided_blocks) == ("proved", 4, 0)
    assert proof.worst < 1e-13


def test_coarser_claims_follow() -> None:
    for keys in (((0,), 2), ((), None)):
        assert status(conv_bn(), (IMAGE,), conv__weight=keys) == {"conv.weight": "proved"}


@pytest.mark.parametrize("keys", [((1,),), ((0, 1),), ((0, 2),)], ids=str)
def test_wrong_blocks_are_refuted(keys: tuple[Any, ...]) -> None:
    model = conv_bn()
    certificate = certify(model, claim(model, conv__weight=keys), (IMAGE,))
    assert not certificate.ok
    assert certificate.proofs["conv.weight"].worst > 1e-4


def test_a_parameter_that_is_not_invariant_is_refuted() -> None:
    assert status(conv_bn(), (IMAGE,), bn__weight=((),)) == {"bn.weight": "refuted"}


def test_a_dead_parameter_is_undecided_even_where_most_are_dead() -> None:
    model = Net(
        lambda m, x: F.batch_norm(m.fc(x) + m.a + m.b + m.c, None, None, training=True),
        fc=linear(3, 4, bias=True),
        a=parameter(4),
        b=parameter(4),
        c=parameter(1),
    )
    found = status(model, (ROWS,), fc__weight=((0,),), fc__bias=((),), a=((),), c=((),))
    assert found == {"fc.weight": "proved", "fc.bias": "undecided", "a": "undecided", "c": "undecided"}


def test_partial_rows() -> None:
    model = Net(lambda m, x: (F.normalize(m.fc(x)[..., :3], dim=-1), m.fc(x)[..., 3:]), fc=linear(6, 5))
    assert status(model, (TOKENS,), fc__weight=runs(3, -2).partition((5, 6))) == {"fc.weight": "proved"}
    assert status(model, (TOKENS,), fc__weight=runs(3, 2).partition((5, 6))) == {"fc.weight": "refuted"}
    assert status(model, (TOKENS,), fc__weight=runs(4, -1).partition((5, 6))) == {"fc.weight": "refuted"}


class LowPrecision(nn.Module):
    """A norm that computes in float32, adds an eps, and runs under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.fc(x).float()
        y = y * torch.rsqrt(y.to(torch.float32).pow(2).mean(-1, keepdim=True) + 1e-5)
        return y.half().softmax(-1, dtype=torch.float32) * torch.ones(4, dtype=torch.float32)


EPS_NORMS = {
    "layer_norm": lambda y: F.layer_norm(y, (4,), eps=1e-3),
    "group_norm": lambda y: F.group_norm(y.mT, 1, eps=1e-3),
    "instance_norm": lambda y: F.instance_norm(y.mT, eps=1e-3),
    "batch_norm": lambda y: F.batch_norm(y.mT, None, None, training=True, eps=1e-3),
    "rms_norm": lambda y: F.rms_norm(y, (4,), eps=1e-3),
    "normalize": lambda y: F.normalize(y, dim=-1, eps=1e-3),
    "clamped": lambda y: y / y.norm(dim=-1, keepdim=True).clamp(min=1e-3),
    "added": lambda y: y / (1e-3 + y.norm(dim=-1, keepdim=True)),
    "added_in_place": lambda y: y / y.square().sum(-1, keepdim=True).add_(1e-3).sqrt(),
    "cosine_similarity": lambda y: F.cosine_similarity(y[:1], y[1:], dim=-1, eps=1e-3),
}


@pytest.mark.parametrize("norm", EPS_NORMS.values(), ids=EPS_NORMS)
def test_every_spelling_of_eps_is_taken_away(norm: Any) -> None:
    model = Net(lambda m, x: norm(1e-2 * m.fc(x)), fc=linear(6, 4))
    assert status(model, (TOKENS,), fc__weight=((),)) == {"fc.weight": "proved"}


def test_a_large_constant_is_no_eps() -> None:
    model = Net(lambda m, x: (y := m.fc(x)) / (y.norm(dim=-1, keepdim=True) + 1e-2), fc=linear(6, 4))
    assert status(model, (TOKENS,), fc__weight=((),)) == {"fc.weight": "refuted"}


def test_casts_to_lower_precision_are_undone() -> None:
    model = LowPrecision()
    proof = certify(model, claim(model, fc__weight=((),)), (TOKENS,)).proofs["fc.weight"]
    assert proof.status == "proved"
    assert proof.worst < 1e-13


def test_constants_kept_outside_buffers_are_widened() -> None:
    model = Net(lambda m, x: F.layer_norm(F.linear(m.fc(x), m.mix), (4,)), fc=linear(6, 4))
    model.mix = torch.randn(4, 4)
    assert status(model, (TOKENS,), fc__weight=((),)) == {"fc.weight": "proved"}


def drop_path_by_floor(x: Tensor) -> Tensor:
    return x * torch.floor(0.5 + torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype))


def drop_path_by_bernoulli(x: Tensor) -> Tensor:
    return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.5).div_(0.5)


MASKS = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout2d": lambda x: F.dropout2d(x, 0.5),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "floor": drop_path_by_floor,
    "bernoulli": drop_path_by_bernoulli,
    "sampled": lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_random_masks_keep_everything(mask: Any) -> None:
    """What is kept is a constant multiple of the input: a bias is then killed by the mean subtraction."""
    model = Net(lambda m, x: F.batch_norm(mask(m.conv(x)), None, None, training=True), conv=conv(2, 4, bias=True))
    found = status(model, (IMAGE,), conv__weight=((0,),), conv__bias=((0,),))
    assert found == {"conv.weight": "proved", "conv.bias": "undecided"}


def test_batch_norm_stays_in_training_mode_with_dropout_off() -> None:
    model = nn.Sequential(linear(3, 4), nn.Dropout(0.9), nn.BatchNorm1d(4)).eval()
    report = Report(claim(model, **{"0__weight": ((0,),)}).parameters, capture={"mode": "train"})
    assert certify(model, report, (ROWS,)).counts() == {"proved": 1, "refuted": 0, "undecided": 0}
    in_eval = Report(report.parameters, capture={"mode": "eval"})
    assert certify(model, in_eval, (ROWS,)).counts() == {"proved": 0, "refuted": 1, "undecided": 0}


def test_rescaling_finds_what_has_no_gradient() -> None:
    """Under no_grad nothing has a gradient, but multiplying still changes the output."""

    def forward(m: Net, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = m.fc(x)
        return m.head(features)

    model = Net(forward, fc=linear(3, 4), head=linear(4, 2))
    report = claim(model, fc__weight=((0,),))
    assert certify(model, report, (ROWS,)).counts()["undecided"] == 1
    proof = certify(model, report, (ROWS,), rescale=True).proofs["fc.weight"]
    assert proof.status == "refuted"
    assert proof.rescale is not None
    assert proof.rescale > 1e-2


def test_rescaling_blames_the_right_claim() -> None:
    model = conv_bn()
    certificate = certify(model, claim(model, conv__weight=((0,),), bn__weight=((),)), (IMAGE,), rescale=True)
    good, bad = certificate.proofs["conv.weight"], certificate.proofs["bn.weight"]
    assert (good.status, bad.status) == ("proved", "refuted")
    assert good.rescale is not None
    assert bad.rescale is not None
    assert good.rescale < 1e-9 < bad.rescale


def snapshot(model: nn.Module) -> dict[str, Any]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "values": {name: t.detach().clone() for name, t in tensors.items()},
        "ids": {name: id(t) for name, t in tensors.items()},
        "grads": {name: p.grad for name, p in model.named_parameters()},
        "flags": {name: m.training for name, m in model.named_modules()},
        "requires": {name: p.requires_grad for name, p in model.named_parameters()},
        "hooks": [len(m._forward_hooks) for m in model.modules()],
        "random": (torch.get_rng_state(), random.getstate(), str(np.random.get_state())),
        "dtype": torch.get_default_dtype(),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_the_model_and_the_random_state_come_back_untouched() -> None:
    model = conv_bn()
    model.conv.weight.requires_grad_(False)
    model.bn.eval()
    model.bn.weight.grad = torch.ones(4)
    model.register_forward_hook(lambda *_: None)
    before = snapshot(model)
    certify(model, claim(model, conv__weight=((0,),)), (IMAGE,), rescale=True)
    after = snapshot(model)
    assert [key for key in before if not same(before[key], after[key])] == []


def test_a_failing_forward_restores_everything_too() -> None:
    model = conv_bn()
    before = snapshot(model)
    with pytest.raises(CaptureError, match="forward of a float64 copy of Net failed with RuntimeError"):
        certify(model, claim(model, conv__weight=((0,),)), (torch.zeros(1, 3),))
    assert same(before["random"], snapshot(model)["random"])
    assert torch.get_default_dtype() == torch.float32


def test_frozen_tied_and_meta_parameters() -> None:
    def tied() -> Net:
        return Net(lambda m, x: F.normalize(m.b(m.a(x).tanh()), dim=-1), a=linear(4, 4), b=linear(4, 4))

    model = tied()
    model.a.weight = model.b.weight
    assert status(model, (torch.zeros(5, 4),), a__weight=((),)) == {"a.weight": "refuted"}
    model = tied().requires_grad_(False)
    assert status(model, (torch.zeros(5, 4),), b__weight=((),)) == {"b.weight": "proved"}
    model = tied().to("meta")
    assert status(model, (torch.zeros(5, 4),), a__weight=((),), b__weight=((),)) == {
        "a.weight": "refuted",
        "b.weight": "proved",
    }


def test_meta_buffers_and_meta_inputs() -> None:
    model = nn.Sequential(conv(2, 4, 3), nn.BatchNorm2d(4)).to("meta")
    assert status(model, (IMAGE.to("meta"),), **{"0__weight": ((0,),)}) == {"0.weight": "proved"}


def test_parametrizations() -> None:
    model = nn.Sequential(parametrizations.weight_norm(linear(3, 4)), parametrizations.spectral_norm(linear(4, 4)))
    first, second = "0.parametrizations.weight.original", "1.parametrizations.weight.original"
    found = status(
        model,
        (ROWS,),
        **{f"{first}1".replace(".", "__"): ((0,),), f"{first}0".replace(".", "__"): ((0,),)},
        **{second.replace(".", "__"): ((),)},
    )
    assert found == {f"{first}1": "proved", f"{first}0": "refuted", second: "proved"}


def test_complex_arithmetic_and_complex_parameters() -> None:
    model = Net(
        lambda m, x: (y := torch.view_as_complex(m.fc(x).unflatten(-1, (2, 2))) * m.turn) / y.abs(),
        fc=linear(6, 4),
        turn=nn.Parameter(torch.randn(2, dtype=torch.complex64)),
    )
    found = status(model, (TOKENS,), fc__weight=((0,), 2), turn=((0,),))
    assert found == {"fc.weight": "proved", "turn": "proved"}
    assert status(model, (TOKENS,), fc__weight=((0,),)) == {"fc.weight": "refuted"}


@dataclass
class Output:
    logits: Tensor
    extra: tuple[Tensor, ...]
    name: str = "out"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: (a, [b]),
        lambda a, b: {"a": a, "nested": {"b": b}},
        lambda a, b: Output(a, (b,)),
        lambda a, b: (b.argmax(-1), None, "text", b, a),
    ],
    ids=["tuple", "dict", "dataclass", "mixed"],
)
def test_every_floating_output_counts(wrap: Any) -> None:
    """The second output is not normalized, so the claim is false wherever it hides."""
    model = Net(lambda m, x: wrap(F.normalize(m.fc(x), dim=-1), m.fc(x)), fc=linear(6, 4))
    assert status(model, (TOKENS,), fc__weight=((),)) == {"fc.weight": "refuted"}


class MaskedTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        assert ids.dtype == torch.int64
        assert set(mask.flatten().tolist()) == {0.0, 1.0}
        return F.normalize(self.table(ids) * mask.unsqueeze(-1), dim=-1)


def test_keyword_inputs_integers_and_masks_keep_their_values() -> None:
    model = MaskedTable()
    ids = torch.tensor([[0, 1, 2], [3, 4, 5]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    certificate = certify(model, claim(model, table__weight=((0,),)), kwargs={"ids": ids, "mask": mask})
    proof = certificate.proofs["table.weight"]
    assert (proof.status, proof.undecided_blocks) == ("undecided", 1)


def test_constant_inputs_are_made_generic() -> None:
    for value in (torch.zeros(3, 5), torch.ones(3, 5)):
        drawn = twin.generic_inputs((value,), seed=0)[0]
        assert drawn.dtype == torch.float64
        assert drawn.unique().numel() == 15


def test_results_of_a_computation_on_a_module_do_not_prevent_the_copy() -> None:
    model = linear(3, 4)
    model.cached = model.weight * 2
    assert status(nn.Sequential(model, nn.BatchNorm1d(4)), (ROWS,), **{"0__weight": ((0,),)}) == {"0.weight": "proved"}
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)


def test_compiled_models_are_unwrapped() -> None:
    model = conv_bn()
    report = claim(model, conv__weight=((0,),))
    compiled: Any = torch.compile(model, backend="eager")
    assert certify(compiled, report, (IMAGE,)).counts()["proved"] == 1


def test_a_report_of_another_model_is_an_error() -> None:
    model = conv_bn()
    with pytest.raises(GroupError, match=r"names 'conv\.weight'"):
        certify(nn.Sequential(linear(3, 4)), claim(model, conv__weight=((0,),)), (ROWS,))
    other = Net(lambda m, x: m.conv(x), conv=conv(2, 5, 3))
    with pytest.raises(GroupError, match=r"\(4, 2, 3, 3\) in the report and \(5, 2, 3, 3\) in the model"):
        certify(other, claim(model, conv__weight=((0,),)), (IMAGE,))


def test_wrong_inputs_are_an_error() -> None:
    model = conv_bn()
    with pytest.raises(InputError, match="args"):
        certify(model, claim(model, conv__weight=((0,),)), "text")


def test_a_forward_without_floating_output_is_an_error() -> None:
    model = Net(lambda m, x: m.fc(x).argmax(-1), fc=linear(3, 4))
    with pytest.raises(CaptureError, match="without a floating tensor"):
        certify(model, claim(model, fc__weight=((0,),)), (ROWS,))


def test_a_model_that_cannot_be_copied_is_an_error() -> None:
    class NoCopy(nn.Linear):
        def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
            raise TypeError("never")

    model = NoCopy(3, 4)
    with pytest.raises(CaptureError, match=r"NoCopy cannot be copied to float64 \(TypeError: never\)"):
        certify(model, claim(model, weight=((0,),)), (ROWS,))


def test_seeds_decide_the_numbers() -> None:
    model = conv_bn()
    report = claim(model, bn__weight=((),))
    first, again, other = (certify(model, report, (IMAGE,), seed=s).proofs["bn.weight"].worst for s in (0, 0, 1))
    assert first == again != other


def test_printing_and_plain_data() -> None:
    model = conv_bn()
    report = claim(model, conv__weight=((0,),), conv__bias=((),), bn__weight=((0,),))
    certificate = certify(model, report, (IMAGE,), rescale=True)
    text = str(certificate).splitlines()
    assert text[0].startswith("3 claims: 1 proved, 1 refuted, 1 undecided (worst proved ")
    assert text[1].startswith("  refuted  bn.weight: Euler residual 1.0e+00, outputs change by ")
    assert text[2].startswith("undecided  conv.bias: ")
    assert text[2].endswith("1 of 1 blocks without gradient")
    data = json.loads(json.dumps(certificate.to_dict()))
    assert data["ok"] is False
    assert data["counts"] == {"proved": 1, "refuted": 1, "undecided": 1}
    assert [proof["name"] for proof in data["proofs"]] == ["conv.weight", "conv.bias", "bn.weight"]


def test_an_empty_report_is_certified() -> None:
    certificate = certify(conv_bn(), Report({}), (IMAGE,), rescale=True)
    assert certificate.ok
    assert certificate.counts() == {"proved": 0, "refuted": 0, "undecided": 0}


def test_one_sample_tests_any_partition() -> None:
    model = conv_bn()
    radial = twin.euler_sample(model, (IMAGE,), {})["conv.weight"].radial
    assert radial.shape == (4, 2, 3, 3)
    assert float(radial.sum((1, 2, 3)).abs().max()) < 1e-12 < float(radial.sum((0, 2, 3)).abs().max())
