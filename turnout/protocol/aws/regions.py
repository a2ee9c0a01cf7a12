"""AWS's regions: the domain that a region's endpoints are in.

Source: botocore's endpoints.json, `partitions[].regionRegex` and `dnsSuffix`.
"""

from __future__ import annotations

_DNS_SUFFIXES = (
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
)


def dns_suffix(region: str) -> str:
    """`amazonaws.com` for `eu-west-1`."""
    return next((suffix for start, suffix in _DNS_SUFFIXES if region.startswith(start)), "amazonaws.com")
