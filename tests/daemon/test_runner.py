"""What computes a batch goes on whatever fails: other ways, smaller batches, the CPU; and it says so.

Every fake way gives the mixture times a number of its own, so that stems tell which way they came.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_files import one_thread, small_htdemucs
from stembridge.errors import ModelError
from stembridge.types import Precision
from stembridge_daemon.worker.forward import memory
from stembridge_daemon.worker.forward.base import Forward, UnknownLayout
from stembridge_daemon.worker.forward.graphs import MOST_GRAPHS, GraphedForward
from stembridge_daemon.worker.forward.runner import Runner
from stembridge_daemon.worker.forward.stock import StockForward

STOCK, FAST, HALF = 1.0, 2.0, 3.0
FRAMES = 64
Fault = Callable[[torch.Tensor], None]

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Way:
    """A forward that gives source i the mixture times ``gain`` plus i.

    ``fault`` sees every batch first and may raise; for a batch that holds the sample ``poison`` the answer is
    not finite.
    """

    def __init__(
        self, gain: float, fault: Fault | None = None, *, poison: float | None = None, bad: float = np.nan
    ) -> None:
        self.gain = gain
        self.sizes: list[int] = []
        self._fault = fault
        self._poison = poison
        self._bad = bad

    def __call__(self, batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        self.sizes.append(len(batch))
        if self._fault is not None:
            self._fault(batch)
        if batch.is_meta:  # only the sizes count there
            return batch
        stems = torch.stack([batch * self.gain + source for source in sources], dim=1)
        if self._poison is not None and bool((batch == self._poison).any()):
            stems[0, 0, 0, 5] = self._bad
        return stems


class Module(torch.nn.Module):
    """Stock: all four sources of a `Way`."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.way(batch, range(4))


def make_runner(
    stock: Way | None = None,
    fast: Way | Exception | None = None,
    half: Way | Exception | None = None,
    *,
    reason: str = "",
    **options: Any,
) -> Runner:
    """Return a runner of fakes; a way that is None is unknown, an exception is what building it raises."""

    def build(module: torch.nn.Module, precision: Precision, device: torch.device) -> Forward:
        way = half if precision is Precision.HALF else fast
        if way is None:
            raise UnknownLayout("five legs")
        if isinstance(way, Exception):
            raise way

        def forward(batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
            assert batch.device.type == device.type
            return way(batch, sources)

        return forward

    def check(
        half: Forward, full: Forward, sources: Sequence[int], shape: torch.Size, device: torch.device
    ) -> str:
        assert shape == (1, 2, FRAMES)
        return reason

    return Runner(
        Module(stock or Way(STOCK)),
        name="fake",
        channels=2,
        sources=4,
        build=build,
        check=check,
        **options,
    )


def make_batch(segments: int = 1) -> NDArray[np.float32]:
    """Return segments of ones, twos, ..."""
    levels = np.arange(1, segments + 1, dtype=np.float32)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(levels, (segments, 2, FRAMES)))


def expect(batch: NDArray[np.float32], gain: float, sources: Sequence[int] = (0,)) -> NDArray[np.float32]:
    return np.stack([batch * np.float32(gain) + source for source in sources], axis=1)


def run_out_above(most: int) -> Fault:
    """Return a fault that has memory for so many segments."""

    def fault(batch: torch.Tensor) -> None:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return fault


def fail(batch: torch.Tensor) -> None:
    raise RuntimeError("expected scalar type Half but found Float\nmore of it")


@pytest.mark.parametrize(("precision", "gain"), [(Precision.FULL, FAST), (Precision.HALF, HALF)], ids=str)
def test_the_fastest_way_of_the_precision_gives_the_wanted_stems(precision: Precision, gain: float) -> None:
    runner = make_runner(Way(STOCK), Way(FAST), Way(HALF))
    batch = make_batch(2)
    before = batch.copy()
    answer = runner.run(batch, (2, 0), precision)
    np.testing.assert_array_equal(answer.stems, expect(batch, gain, (2, 0)))
    assert answer.stems.dtype == np.float32
    assert answer.stems.flags.c_contiguous
    assert answer.remarks == ()
    assert answer.is_repeatable
    np.testing.assert_array_equal(batch, before)


@pytest.mark.parametrize("precision", list(Precision))
def test_an_unknown_layout_goes_to_stock_and_is_no_news(precision: Precision) -> None:
    answer = make_runner().run(make_batch(), (1,), precision)
    np.testing.assert_array_equal(answer.stems, expect(make_batch(), STOCK, (1,)))
    assert answer.remarks == ()
    assert answer.is_repeatable


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_half_batch_that_is_not_finite_is_computed_again_in_full(bad: float) -> None:
    runner = make_runner(Way(STOCK), Way(FAST), Way(HALF, poison=7.0, bad=bad))
    answer = runner.run(np.full((1, 2, FRAMES), 7, np.float32), (0,), Precision.HALF)
    np.testing.assert_array_equal(answer.stems, np.full((1, 1, 2, FRAMES), 7 * FAST, np.float32))
    (remark,) = answer.remarks
    assert "half precision gave values that are not finite" in remark
    assert "full precision" in remark
    assert answer.is_repeatable, "the same samples fail again"
    after = runner.run(make_batch(), (0,), Precision.HALF)
    np.testing.assert_array_equal(after.stems, expect(make_batch(), HALF))
    assert after.remarks == ()


def test_two_infinities_that_cancel_are_noticed() -> None:
    def build(module: torch.nn.Module, precision: Precision, device: torch.device) -> Forward:
        def forward(batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
            stems = Way(FAST)(batch, sources)
            stems[0, 0, 0, :2] = torch.tensor([torch.inf, -torch.inf])
            return stems

        return forward

    runner = Runner(Module(Way(STOCK)), name="fake", channels=2, sources=4, build=build, check=lambda *_: "")
    answer = runner.run(make_batch(), (0,), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(make_batch(), STOCK))


def test_loud_but_finite_stems_are_no_reason_to_compute_again() -> None:
    answer = make_runner(Way(STOCK), Way(3e38)).run(make_batch(), (0,), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(make_batch(), 3e38))
    assert answer.remarks == ()


def test_a_fast_batch_that_is_not_finite_is_computed_again_by_stock() -> None:
    runner = make_runner(Way(STOCK), Way(FAST, poison=1.0), Way(HALF, poison=1.0))
    answer = runner.run(make_batch(), (0,), Precision.HALF)
    np.testing.assert_array_equal(answer.stems, expect(make_batch(), STOCK))
    assert len(answer.remarks) == 2
    assert "stock Demucs" in answer.remarks[1]


def test_a_remark_is_made_once_for_a_batch_in_parts() -> None:
    answer = make_runner(Way(STOCK), Way(FAST), Way(HALF, poison=7.0)).run(
        np.full((17, 2, FRAMES), 7, np.float32), (0,), Precision.HALF
    )
    assert len(answer.remarks) == 1


def test_stock_that_is_not_finite_is_handed_on() -> None:
    answer = make_runner(Way(STOCK, poison=1.0)).run(make_batch(), (0,), Precision.FULL)
    assert np.isnan(answer.stems).sum() == 1


@pytest.mark.parametrize("is_built", [True, False], ids=["running", "building"])
def test_a_fast_way_that_raises_is_left_for_good_and_told_once(
    is_built: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fast = Way(FAST, fail)
    runner = make_runner(Way(STOCK), fast if is_built else RuntimeError("expected scalar type Half\nmore"))
    batch = make_batch()
    answers = [runner.run(batch, (0,), Precision.FULL) for _ in range(3)]
    for answer in answers:
        np.testing.assert_array_equal(answer.stems, expect(batch, STOCK))
        assert not answer.is_repeatable, "a fresh runner begins with the fast way again"
    assert [len(answer.remarks) for answer in answers] == [1, 0, 0]
    (remark,) = answers[0].remarks
    assert "expected scalar type Half" in remark
    assert "\n" not in remark
    assert len(fast.sizes) == (1 if is_built else 0)
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1


def test_what_fails_before_the_first_job_is_told_by_its_first_batch() -> None:
    warmed = make_runner(Way(STOCK), Way(FAST, fail))
    warmed.warm_up(FRAMES)
    asked = make_runner(Way(STOCK), RuntimeError("expected scalar type Half"), Way(HALF))
    assert "no half-precision path" in asked.refuse_half(FRAMES)
    for runner in (warmed, asked):
        told, later = (runner.run(make_batch(), (0,), Precision.FULL) for _ in range(2))
        assert "expected scalar type Half" in told.remarks[0] and len(told.remarks) == 1
        assert later.remarks == () and not later.is_repeatable


def test_half_that_raises_goes_on_in_full_and_is_not_offered_again() -> None:
    runner = make_runner(Way(STOCK), Way(FAST), Way(HALF, fail))
    assert runner.refuse_half(FRAMES) == ""
    answer = runner.run(make_batch(), (0,), Precision.HALF)
    np.testing.assert_array_equal(answer.stems, expect(make_batch(), FAST))
    assert "half precision" in answer.remarks[0]
    assert runner.refuse_half(FRAMES) != ""


def test_stock_that_raises_ends_the_job() -> None:
    with pytest.raises(RuntimeError, match="expected scalar"):
        make_runner(Way(STOCK, fail), Way(FAST, fail)).run(make_batch(), (0,), Precision.FULL)


def test_half_is_refused_with_the_reason_of_the_check() -> None:
    ways = (Way(STOCK), Way(FAST), Way(HALF))
    assert make_runner(*ways).refuse_half(FRAMES) == ""
    assert make_runner(*ways, reason="12 dB on an impulse").refuse_half(FRAMES) == "12 dB on an impulse"
    assert "no half-precision path" in make_runner(Way(STOCK), Way(FAST)).refuse_half(FRAMES)


def test_a_check_that_fails_means_no_half() -> None:
    def check(
        half: Forward, full: Forward, sources: Sequence[int], shape: torch.Size, device: torch.device
    ) -> str:
        half(torch.zeros(shape), (0,))
        return ""

    runner = Runner(
        Module(Way(STOCK)),
        name="fake",
        channels=2,
        sources=4,
        build=lambda module, precision, device: Way(HALF, fail),
        check=check,
    )
    assert "expected scalar type Half" in runner.refuse_half(FRAMES)


def test_a_batch_without_memory_is_halved_until_it_fits_and_that_is_remembered() -> None:
    stock = Way(STOCK, run_out_above(2))
    runner = make_runner(stock)
    batch = make_batch(7)
    answer = runner.run(batch, (0, 3), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(batch, STOCK, (0, 3)))
    assert stock.sizes == [8, 4, 2, 2, 2, 1], "padded to fixed sizes; what did not fit is not tried again"
    assert len(answer.remarks) == 2
    assert all("no memory" in remark for remark in answer.remarks)
    assert not answer.is_repeatable
    again = runner.run(batch, (0,), Precision.FULL)
    np.testing.assert_array_equal(again.stems, expect(batch, STOCK))
    assert stock.sizes[6:] == [2, 2, 2, 1]
    assert again.remarks == ()


def test_the_segments_of_a_padded_batch_come_back_alone() -> None:
    fast = Way(FAST)
    batch = make_batch(3)
    answer = make_runner(Way(STOCK), fast).run(batch, (0, 1), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(batch, FAST, (0, 1)))
    assert fast.sizes == [4]


def test_a_batch_beyond_the_largest_size_is_cut() -> None:
    fast = Way(FAST)
    batch = make_batch(19)
    answer = make_runner(Way(STOCK), fast).run(batch, (0,), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(batch, FAST))
    assert fast.sizes == [16, 4]


def test_a_fast_way_without_memory_is_no_broken_way() -> None:
    runner = make_runner(Way(STOCK), Way(FAST, run_out_above(1)))
    batch = make_batch(2)
    answer = runner.run(batch, (0,), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(batch, FAST))


@pytest.mark.parametrize("precision", list(Precision))
def test_a_device_without_memory_for_one_segment_leaves_it_to_the_cpu(precision: Precision) -> None:
    def fault(batch: torch.Tensor) -> None:
        if batch.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory.")

    ways = [Way(gain, fault) for gain in (STOCK, FAST, HALF)]
    runner = make_runner(*ways, device="meta")
    batch = make_batch(3)
    answer = runner.run(batch, (0,), precision)
    np.testing.assert_array_equal(answer.stems, expect(batch, FAST))
    assert "CPU" in answer.remarks[-1]
    assert not answer.is_repeatable
    assert ways[2].sizes == ([4, 2, 1] if precision is Precision.HALF else []), "not checked on the CPU"
    assert ways[0].sizes == []
    assert runner.batch_limit(FRAMES, Precision.FULL) == 1
    assert runner.refuse_half(FRAMES) != ""
    assert not runner.run(batch, (0,), Precision.FULL).is_repeatable


def test_no_memory_on_the_cpu_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ModelError, match=r"no memory .* fake") as caught:
        make_runner(Way(STOCK, run_out_above(0)), Way(FAST, run_out_above(0))).run(
            make_batch(), (0,), Precision.FULL
        )
    assert caught.value.hint


@pytest.mark.parametrize(
    ("error", "is_out"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, other allocations: 1 GB)"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory lane"), False),
    ],
)
def test_what_torch_says_when_memory_runs_out(error: Exception, is_out: bool) -> None:
    assert memory.is_out_of_memory(error) is is_out


def test_torch_really_says_so_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert memory.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("one", "two", "free", "limit"),
    [
        (3, 5, 5, 2),  # 1 fixed, 2 each
        (3, 5, 8, 2),
        (3, 5, 9, 4),
        (3, 5, 10_000, 16),
        (3, 5, 0, 1),
        (8, 8, 12, 2),  # the second seemed to cost nothing: at least half of the first is reckoned
        (0, 0, 100, 16),
    ],
)
def test_batches_are_as_large_as_memory_allows(one: int, two: int, free: int, limit: int) -> None:
    need = memory.need_from_peaks(one, two)
    assert need.count_fitting(free) == limit


def test_a_cpu_computes_one_segment_at_a_time() -> None:
    way = Way(FAST)
    assert make_runner(Way(STOCK), way).batch_limit(FRAMES, Precision.FULL) == 1
    assert way.sizes == []


def test_a_devices_limit_is_measured_once_for_each_length_and_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure_peak(compute: Callable[[], torch.Tensor], device: torch.device) -> int:
        return 10 + len(compute()) * 100

    monkeypatch.setattr(memory, "measure_peak", measure_peak)
    monkeypatch.setattr(memory, "count_free_bytes", lambda device: 450)
    fast, half = Way(FAST), Way(HALF)
    runner = make_runner(Way(STOCK), fast, half, device="meta")
    assert [runner.batch_limit(FRAMES, Precision.FULL) for _ in range(2)] == [4, 4]
    assert fast.sizes == [1, 1, 2]
    assert runner.batch_limit(FRAMES, Precision.HALF) == 4
    assert half.sizes == [1, 1, 2]


def test_what_did_not_fit_is_below_the_limit_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_peak", lambda compute, device: len(compute()))
    monkeypatch.setattr(memory, "count_free_bytes", lambda device: 100)
    faults: list[Fault] = []

    def fault(batch: torch.Tensor) -> None:
        for one in faults:
            one(batch)

    runner = make_runner(Way(STOCK, fault), device="meta")
    assert runner.batch_limit(FRAMES, Precision.FULL) == 16
    faults += [run_out_above(4), fail]
    with pytest.raises(RuntimeError, match="expected scalar"):
        runner.run(make_batch(16), (0,), Precision.FULL)
    assert runner.batch_limit(FRAMES, Precision.FULL) == 4


def test_a_device_that_cannot_even_be_measured_gets_single_segments() -> None:
    runner = make_runner(Way(STOCK, run_out_above(0)), device="meta")
    assert runner.batch_limit(FRAMES, Precision.FULL) == 1


class Compiler:
    """Stands in for torch.compile: what it made blocks when it is first called, until it is told to go on."""

    def __init__(
        self, gain: float = FAST, fault: Fault | None = None, *, poison: float | None = None
    ) -> None:
        self.go = threading.Event()
        self.shapes: list[torch.Size] = []
        self._way = Way(gain, fault, poison=poison)

    def __call__(self, forward: Forward) -> Forward:
        return self.run

    def run(self, batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        if batch.shape not in self.shapes:
            assert self.go.wait(20)
            self.shapes.append(batch.shape)
        return self._way(batch, sources)


def test_the_eager_path_serves_until_the_compiled_one_is_ready() -> None:
    # Compiled answers that differ by little tell themselves apart and pass for the same.
    gain = FAST * 1.001
    compiler = Compiler(gain)
    runner = make_runner(Way(STOCK), Way(FAST), compile_=compiler)
    batch, other = make_batch(), make_batch(2)
    for each in (batch, batch, other):
        np.testing.assert_array_equal(runner.run(each, (0,), Precision.FULL).stems, expect(each, FAST))
    compiler.go.set()
    assert runner.wait(20)
    assert compiler.shapes == [batch.shape], "one at a time"
    answer = runner.run(batch, (3, 0), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(batch, gain, (3, 0)))
    assert answer.remarks == ()
    assert not answer.is_repeatable, "nobody knows at which batch the two changed places"
    np.testing.assert_array_equal(runner.run(other, (0,), Precision.FULL).stems, expect(other, FAST))
    assert runner.wait(20)
    np.testing.assert_array_equal(runner.run(other, (0,), Precision.FULL).stems, expect(other, gain))


def fail_to_compile(forward: Forward) -> Forward:
    raise RuntimeError("no C++ compiler")


@pytest.mark.parametrize(
    "compile_",
    [fail_to_compile, Compiler(fault=fail), Compiler(gain=FAST * 1.5), Compiler(gain=float("nan"))],
    ids=["compiling", "running", "wrong", "nan"],
)
def test_what_cannot_be_compiled_stays_eager(compile_: Any, caplog: pytest.LogCaptureFixture) -> None:
    if isinstance(compile_, Compiler):
        compile_.go.set()
    runner = make_runner(Way(STOCK), Way(FAST), compile_=compile_)
    with caplog.at_level(logging.WARNING):
        for segments in (1, 1, 2, 1):
            batch = make_batch(segments)
            answer = runner.run(batch, (0,), Precision.FULL)
            np.testing.assert_array_equal(answer.stems, expect(batch, FAST))
            assert answer.remarks == ()
            assert runner.wait(20)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("fails", [fail, run_out_above(0)], ids=["broken", "no memory"])
def test_a_compiled_path_that_fails_later_is_left_for_the_eager_one(fails: Fault) -> None:
    faults: list[Fault] = []

    def fault(batch: torch.Tensor) -> None:
        for one in faults:
            one(batch)

    compiler = Compiler(fault=fault)
    compiler.go.set()
    runner = make_runner(Way(STOCK), Way(FAST), compile_=compiler)
    runner.run(make_batch(), (0,), Precision.FULL)
    assert runner.wait(20)
    faults.append(fails)
    answer = runner.run(make_batch(), (0,), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(make_batch(), FAST))
    assert "compiled" in answer.remarks[0]
    assert runner.run(make_batch(), (0,), Precision.FULL).remarks == ()


@pytest.mark.parametrize("is_eager_finite", [True, False])
def test_what_the_compiled_path_gives_is_checked_too(is_eager_finite: bool) -> None:
    compiler = Compiler(poison=7.0)
    compiler.go.set()
    runner = make_runner(Way(STOCK), Way(FAST, poison=None if is_eager_finite else 7.0), compile_=compiler)
    runner.run(make_batch(), (0,), Precision.FULL)
    assert runner.wait(20)
    batch = np.full((1, 2, FRAMES), 7, np.float32)
    answer = runner.run(batch, (0,), Precision.FULL)
    np.testing.assert_array_equal(answer.stems, expect(batch, FAST if is_eager_finite else STOCK))
    assert len(answer.remarks) == (0 if is_eager_finite else 1)


@pytest.fixture(scope="module")
def htdemucs() -> Any:
    return small_htdemucs(1, t_layers=1, dconv_mode=1)


def test_a_real_model_gives_stocks_stems_and_the_same_bits_again(htdemucs: Any) -> None:
    noise = np.random.default_rng(3).standard_normal((1, 2, 44_100)).astype(np.float32)
    with one_thread(), torch.inference_mode():
        expected = htdemucs(torch.from_numpy(noise))[:, [3, 1]].numpy()
        runner = Runner(htdemucs, name="htdemucs", channels=2, sources=4)
        runner.warm_up(44_100)
        first, again = (runner.run(noise, (3, 1), Precision.FULL).stems for _ in range(2))
    np.testing.assert_array_equal(first, again)
    error = np.linalg.norm(first - expected) / np.linalg.norm(expected)
    assert error < 1e-4


@on_cuda
def test_a_graph_gives_what_the_eager_forward_gives() -> None:
    weight = torch.randn(4, 2, generator=torch.Generator().manual_seed(1)).cuda()

    def forward(batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        return torch.einsum("sc,ncf->nsf", weight, batch)[:, :, None].tanh()

    graphed = GraphedForward(forward, range(4))
    draw = torch.Generator().manual_seed(2)
    with torch.inference_mode():
        for size in (1, 2, 1, 2, *range(3, MOST_GRAPHS + 4), 1, 1):
            batch = torch.randn(size, 2, 512, generator=draw).cuda()
            kept = graphed(batch, (2, 0))
            again = graphed(batch, (2, 0))
            graphed(torch.zeros_like(batch), range(4))
            torch.testing.assert_close(kept, forward(batch, range(4))[:, [2, 0]])
            torch.testing.assert_close(again, kept)


@on_cuda
def test_a_cuda_device_gives_stocks_stems_in_padded_batches_and_the_same_bits_again(htdemucs: Any) -> None:
    noise = np.random.default_rng(3).standard_normal((3, 2, 44_100)).astype(np.float32)
    with torch.inference_mode():
        expected = StockForward(htdemucs.cpu())(torch.from_numpy(noise), range(4)).numpy()
    runner = Runner(htdemucs, name="htdemucs", channels=2, sources=4, device="cuda")
    runner.warm_up(44_100)
    assert runner.batch_limit(44_100, Precision.FULL) >= 2
    answers = [runner.run(noise, range(4), Precision.FULL) for _ in range(4)]
    htdemucs.cpu()
    for answer in answers:
        assert answer.remarks == ()
        assert np.linalg.norm(answer.stems - expected) / np.linalg.norm(expected) < 1e-3
    np.testing.assert_array_equal(answers[2].stems, answers[3].stems)
