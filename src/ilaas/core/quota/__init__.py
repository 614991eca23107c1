"""Quotas and budgets: reserve an estimate at admission, settle by the real count, refund what failed.

`QuotaBook` counts; `Limits` and `Subject` say what applies to whom; `charging` holds the one rule for requests
that were aborted or failed. Pure: time is passed in, nothing is stored. docs/quotas.md says it in words.
"""

from ilaas.core.quota.account import Reservation
from ilaas.core.quota.book import QuotaBook
from ilaas.core.quota.charging import Charging, charging
from ilaas.core.quota.limits import LimitHit, LimitName, Limits, RateHeaders, Subject, SubjectKind, subjects_of

__all__ = [
    "Charging",
    "LimitHit",
    "LimitName",
    "Limits",
    "QuotaBook",
    "RateHeaders",
    "Reservation",
    "Subject",
    "SubjectKind",
    "charging",
    "subjects_of",
]
