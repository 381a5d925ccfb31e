"""What it takes to answer so many questions in so many seconds: `plan` from measured rates, checked by a simulation."""

from leanrag.planning.demand import Demand, poisson_arrivals, read_trace
from leanrag.planning.machines import Machine, MachinePrices, read_prices
from leanrag.planning.measuring import measure_rates, rates_of_this_machine
from leanrag.planning.rates import Rates, read_rates
from leanrag.planning.report import Plan
from leanrag.planning.scaling import Autoscaler, Scaling
from leanrag.planning.simulation import SimulatedRun, Spot, simulate
from leanrag.planning.sizing import plan

__all__ = [
    "Autoscaler",
    "Demand",
    "Machine",
    "MachinePrices",
    "Plan",
    "Rates",
    "Scaling",
    "SimulatedRun",
    "Spot",
    "measure_rates",
    "plan",
    "poisson_arrivals",
    "rates_of_this_machine",
    "read_prices",
    "read_rates",
    "read_trace",
    "simulate",
]
