"""`leanrag plan`: what it takes to answer so many questions in so many seconds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from leanrag.cli.options import Commands
from leanrag.cli.output import FAILED, OK, show

if TYPE_CHECKING:
    from leanrag.planning import Rates

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "plan", _run, commands.common, "simulate what so many documents and questions need: memory, replicas and money"
    )
    parser.add_argument("--documents", required=True, metavar="N", help="documents, such as 10M")
    parser.add_argument(
        "--questions", default="1/s", metavar="RATE", help="such as 100/s or 2k/h (default: %(default)s)"
    )
    parser.add_argument("--p95", required=True, metavar="TIME", help="time in which 95 of 100 are answered, such as 2s")
    parser.add_argument(
        "--chunks-per-document",
        type=float,
        default=1.0,
        metavar="N",
        help="chunks of a document, on average (default: %(default)s)",
    )
    parser.add_argument(
        "--peak",
        type=float,
        default=1.0,
        metavar="TIMES",
        help="times as many questions in the peak (default: %(default)s)",
    )
    parser.add_argument(
        "--peak-length", default="10min", metavar="TIME", help="length of the peak of each hour (default: %(default)s)"
    )
    parser.add_argument(
        "--trace", metavar="FILE", help="seconds of arrivals, one in a line, instead of --questions and --peak"
    )
    parser.add_argument("--prices", metavar="FILE", help="YAML file with the prices of machines")
    parser.add_argument(
        "--replicas", type=int, metavar="N", help="replicas in the peak (default: the fewest that suffice)"
    )
    parser.add_argument(
        "--least",
        type=int,
        metavar="N",
        help="replicas that always run, 0 to scale to zero (default: the fewest that suffice)",
    )
    parser.add_argument(
        "--start", default="60s", metavar="TIME", help="time until a new replica answers (default: %(default)s)"
    )
    parser.add_argument("--spot", type=float, metavar="N", help="interruptions of a replica in an hour, at spot prices")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default: %(default)s)")
    _add_rates(parser.add_argument_group("rates", "measured on this machine once, unless they are passed"))


def _add_rates(group: Any) -> None:
    group.add_argument("--model", help="model that answers (default: the best on this machine)")
    group.add_argument(
        "--embedder", default="all-minilm-l6-v2", help="name, GGUF file or folder (default: %(default)s)"
    )
    group.add_argument("--measure", action="store_true", help="measure again")
    group.add_argument("--rates", metavar="FILE", help="YAML file with rates; nothing is measured")
    group.add_argument("--question-time", metavar="TIME", help="time of a question alone; nothing is measured")
    group.add_argument(
        "--variation", type=float, metavar="SHARE", help="standard deviation of this time as a share of it"
    )
    group.add_argument(
        "--speedup", metavar="N:TIMES", help="such as 4:2.5,8:3.5: four at once are answered 2.5 times as fast"
    )
    group.add_argument("--cores", type=int, metavar="N", help="cores of a replica")
    group.add_argument("--gpus", type=int, metavar="N", help="GPUs of a replica")


def _run(options: argparse.Namespace) -> int:
    from leanrag.planning import Demand, Scaling, Spot, plan, read_prices, read_trace
    from leanrag.planning.demand import parse_count, parse_rate, parse_seconds

    demand = Demand(
        documents=parse_count(options.documents),
        questions_per_second=parse_rate(options.questions),
        p95_seconds=parse_seconds(options.p95),
        chunks_per_document=options.chunks_per_document,
        peak=options.peak,
        peak_seconds=parse_seconds(options.peak_length),
    )
    prices = None if options.prices is None else read_prices(options.prices)
    arrivals = None if options.trace is None else read_trace(options.trace)
    scaling = Scaling(start_seconds=parse_seconds(options.start))
    spot = None if options.spot is None else Spot(options.spot)
    result = plan(
        demand,
        _rates(options),
        prices=prices,
        replicas=options.replicas,
        least_replicas=options.least,
        scaling=scaling,
        spot=spot,
        arrivals=arrivals,
        seed=options.seed,
    )
    show(options, result, str(result))
    return OK if result.meets_target else FAILED


def _rates(options: argparse.Namespace) -> Rates:
    """Return the rates of the options; what they do not say is read from a file, or measured."""
    from leanrag.planning import Rates, rates_of_this_machine, read_rates
    from leanrag.planning.demand import parse_seconds
    from leanrag.planning.rates import parse_speedup

    said: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("model", "variation", "cores", "gpus")
        if getattr(options, name) is not None
    }
    if options.question_time is not None:
        said["question_seconds"] = parse_seconds(options.question_time)
    if options.speedup is not None:
        said["speedup"] = parse_speedup(options.speedup)
    if options.rates is not None:
        return Rates(**{**read_rates(options.rates).model_dump(), **said})
    if "question_seconds" in said:
        return Rates(**said)
    from leanrag.pipeline.defaults import default_models

    measured = rates_of_this_machine(
        options.model or default_models()[-1], embedder=options.embedder, again=options.measure
    )
    return Rates(**{**measured.model_dump(), **said})
