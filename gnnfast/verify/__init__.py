"""The law of a sampler, checked: what it draws, how it repeats itself, what it does at the edges."""

from gnnfast.verify.report import Report as Report
from gnnfast.verify.report import Row as Row
from gnnfast.verify.verify import verify as verify
