"""Measure answers on questions with known answers: data sets, runs, metrics, comparisons."""

from leanrag.evaluation.bench import Bench, bench
from leanrag.evaluation.datasets import read_beir, read_hotpot, read_nq, read_questions, read_squad
from leanrag.evaluation.judging import Judgement, judge
from leanrag.evaluation.making import MadeQuestions, make_questions
from leanrag.evaluation.measures import METRICS, Metric
from leanrag.evaluation.questions import Dataset, Passage, Question
from leanrag.evaluation.running import Outcome, Run, read_run, run
from leanrag.evaluation.summaries import Comparison, Figure, Summary, compare, summarize
from leanrag.evaluation.tuning import Tuning, tune
from leanrag.pipeline.configuration import TunedSettings, read_settings

__all__ = [
    "Bench",
    "Comparison",
    "Dataset",
    "Figure",
    "Judgement",
    "METRICS",
    "MadeQuestions",
    "Metric",
    "Outcome",
    "Passage",
    "Question",
    "Run",
    "Summary",
    "TunedSettings",
    "Tuning",
    "bench",
    "compare",
    "judge",
    "make_questions",
    "read_beir",
    "read_hotpot",
    "read_nq",
    "read_questions",
    "read_run",
    "read_settings",
    "read_squad",
    "run",
    "summarize",
    "tune",
]
