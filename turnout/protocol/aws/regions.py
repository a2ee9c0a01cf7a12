"""AWS's regions and the domains of their endpoints.

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
    """Return `amazonaws.com` for `eu-west-1`."""
    return next((suffix for start, suffix in _DNS_SUFFIXES if region.startswith(start)), "amazonaws.com")
