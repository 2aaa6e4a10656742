"""`stembridge null`: does a result folder sum to its original, and does its manifest tell the truth?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stembridge.errors import StembridgeError
from stembridge.manifest import FILE_NAME, read_manifest
from stembridge.text import one_line

EXIT_NOT_EXACT = 1


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option("--all-orders", is_flag=True, help="Sum in every order of the files, not in six.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
def null(folders: tuple[Path, ...], all_orders: bool, as_json: bool) -> int:
    """Re-read result folders and print the null per mixing width; exit 1 if a claim does not hold.

    A folder of result folders stands for all of them.
    """
    codes = []
    for folder in (found for given in folders for found in _result_folders(given)):
        try:
            codes.append(print_null(folder, all_orders=all_orders, as_json=as_json))
        except StembridgeError as error:
            print(f"stembridge: {one_line(str(error))}", file=sys.stderr)
            codes.append(error.exit_code)
    return max(codes)


def _result_folders(folder: Path) -> list[Path]:
    """Return ``folder`` itself, or the result folders in it where it is none."""
    if (folder / FILE_NAME).exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}")) or [folder]


def print_null(folder: Path, *, all_orders: bool = False, as_json: bool = False) -> int:
    """Print what `check_result` finds in one folder; return the exit code."""
    from stembridge.null_test import ALL_ORDERS, ORDERS, Reference, check_result

    report = check_result(folder, orders=ALL_ORDERS if all_orders else ORDERS)
    if as_json:
        import json

        import msgspec

        print(json.dumps(msgspec.to_builtins(report)))
        return 0 if report.holds else EXIT_NOT_EXACT
    is_remix = read_manifest(folder).remix is not None
    against = {
        Reference.ORIGINAL: "the original",
        Reference.MIXTURE: "the remix" if is_remix else "the decoded mixture",
        Reference.HASH: "the remix's hash" if is_remix else "the original's hash",
    }
    print(one_line(str(folder)))
    if report.claims is None:
        for failure in report.failures:
            print(f"fault: {one_line(failure)}")
        return EXIT_NOT_EXACT
    files = "1 file" if len(report.files) == 1 else f"{len(report.files)} files"
    print(
        f"{files} of {report.frames} frames in {report.channels} channels, "
        f"against {against[report.reference]}"
    )
    if report.remark:
        print(f"  ({one_line(report.remark)})")
    if report.reference is Reference.HASH and not report.holds:
        print("the sum is not the original's, and the original is not there to say by how much")
    else:
        print(f"64-bit, {report.orders_f64} sums: {_verdict(report.error_f64)}")
        print(f"32-bit, {report.orders_f32} sums: {_verdict(report.error_f32)}")
    for failure in report.failures:
        print(f"fault: {one_line(failure)}")
    if report.holds:
        print("every claim of the manifest holds")
    return 0 if report.holds else EXIT_NOT_EXACT


def _verdict(error: float | None) -> str:
    from stembridge.null_test import decibels

    assert error is not None, "summed, since there are claims"
    if error == 0.0:
        return "exactly 0, every sample"
    return f"largest error {decibels(error):.1f} dBFS"
