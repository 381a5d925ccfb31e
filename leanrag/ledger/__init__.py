"""The receipt: prices, limits, and a ledger of every stage of every question."""

from leanrag.ledger.baseline import Baseline as Baseline
from leanrag.ledger.baseline import estimate_baseline as estimate_baseline
from leanrag.ledger.baseline import measured_baseline as measured_baseline
from leanrag.ledger.book import CostLedger as CostLedger
from leanrag.ledger.book import Receipt as Receipt
from leanrag.ledger.book import Summary as Summary
from leanrag.ledger.budget import Budget as Budget
from leanrag.ledger.budget import SpendingLimitError as SpendingLimitError
from leanrag.ledger.limits import Limits as Limits
from leanrag.ledger.limits import Spent as Spent
from leanrag.ledger.prices import Cost as Cost
from leanrag.ledger.prices import Prices as Prices
from leanrag.ledger.prices import add_costs as add_costs
from leanrag.ledger.rows import KINDS as KINDS
from leanrag.ledger.rows import Row as Row
from leanrag.ledger.rows import row_of as row_of
from leanrag.ledger.rows import rows_of as rows_of
