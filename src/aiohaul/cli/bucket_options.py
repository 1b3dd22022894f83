"""The options of ``aiohaul watch`` and ``aiohaul doctor`` about the payer and owner of a bucket."""

from __future__ import annotations

import argparse

from aiohaul.errors import SettingsError
from aiohaul.s3.options import SourceOptions


def add_bucket_options(command: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a command."""
    command.add_argument(
        "--request-payer",
        choices=["requester"],
        help="confirm that you pay for the requests to a bucket with Requester Pays",
    )
    command.add_argument(
        "--expected-bucket-owner",
        type=_account,
        metavar="ACCOUNT",
        help="the account, 12 digits, that must own the bucket",
    )


def bucket_options(args: argparse.Namespace, base: SourceOptions | None = None) -> SourceOptions:
    """Return the options of the command line, with missing values from ``base``."""
    base = base or SourceOptions()
    return SourceOptions(
        request_payer=args.request_payer or base.request_payer,
        expected_bucket_owner=args.expected_bucket_owner or base.expected_bucket_owner,
    )


def _account(text: str) -> str:
    try:
        SourceOptions(expected_bucket_owner=text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the id of an account, 12 digits"
        ) from error
    return text
