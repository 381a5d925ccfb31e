"""The table of the benchmark `training`, and its other figures in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["training_lines"]

_READERS = {"smollm2": "smollm2-135m+reader", "qwen05": "qwen2.5-coder-0.5b with an adapter"}
_COLUMNS = {
    "nq1_em": "exact: NQ, the passage alone",
    "nq3_em": "exact: NQ, three sources",
    "squad_em": "exact: SQuAD",
    "refuses_distractors": "refuses if no source answers",
    "refuses_near_miss": "refuses near misses",
    "wrongly_refuses": "wrongly refuses",
    "mark_right": "`[n]` right",
}
_SENTENCES = """\
- In use, with search and packing, {calibrated_n} questions: right, answers and refusals together, {in_use_right:.2f}; refuses
  {in_use_refuses_distractors:.2f} if no source answers and {in_use_refuses_near_miss:.2f} of near misses, wrongly
  {in_use_wrongly_refuses:.2f}. Calibrations for articles that they were not fitted on: AUROC {calibrated_auroc:.2f} and calibration
  error {calibrated_ece:.2f} for a right answer. A cascade keeps {calibrated_kept:.2f} of the answers; {calibrated_kept_wrong:.2f}
  of all questions get a wrong answer that way. With `abstain_below=0.3`, {abstaining_right:.2f} are right; refused are
  {abstaining_refuses_distractors:.2f} if no source answers, {abstaining_refuses_near_miss:.2f} of near misses, and wrongly
  {abstaining_wrongly_refuses:.2f}.
- End to end, with 300 tokens of sources, against qwen2.5-coder-1.5b with ten passages: {end_to_end_f1_ratio:.2f} of the F1 in
  {end_to_end_cost_ratio:.2f} of the time ({end_to_end_n} questions).
- `leanrag train` on a new folder of {own_folder_documents} documents, with {own_folder_rows} rows from made questions, in
  {own_folder_seconds:.0f} s on a CPU: exact answers to {own_folder_n} real questions {own_folder_base_em:.2f} as shipped,
  {own_folder_reader_em:.2f} with the reader, {own_folder_trained_em:.2f} with the reader after the training.
- The adapter on the file that it was trained on: {adapter_em:.2f} exact answers. Merged into the weights: {merged_f16_em:.2f} in
  F16, {merged_q4_0_em:.2f} in Q4_0, so Q4_0 costs {q4_0_cost:.2f} ({q4_0_n} questions).
- Killed at {resumed_n} random moments and resumed: a share of {resumed_equal:.2f} end with the same loss.
- Difference between torch and llama.cpp: {torch_llamacpp_gap:.3f} ({torch_n} prompts).
- On a GPU: bf16 saves {mixed_memory_saved:.2f} of the memory and {mixed_time_saved:.2f} of the time of fp32; early stopping saves
  {early_stopping_steps_saved:.2f} of the steps; a teacher's logits beside the labels change the exact answers by {kl_gain:.3f}
  [{kl_gain_low:.3f}, {kl_gain_high:.3f}]."""


class _Unknown:
    """A figure that was not measured."""

    def __format__(self, _spec: str) -> str:
        return "–"


class _Figures(dict[str, Any]):
    def __missing__(self, _name: str) -> _Unknown:
        return _Unknown()


def training_lines(figures: Mapping[str, Any], origin: str) -> str:
    """Return the text for the documentation.

    Args:
        figures: The results.
        origin: Says what measured them.
    """
    known = _Figures({name: value for name, value in figures.items() if value is not None})
    rows = [
        f"The shipped reader through llama.cpp, and a larger reader in torch ({origin}).",
        "The questions are about articles that neither was trained on.",
        "",
        f"| reader | {' | '.join(_COLUMNS.values())} |",
        "|---|" + "---|" * len(_COLUMNS),
        *(_row(name, [known[f"{reader}_{column}"] for column in _COLUMNS]) for reader, name in _READERS.items()),
    ]
    return "\n".join([*rows, "", _SENTENCES.format_map(known)])


def _row(name: str, cells: Sequence[Any]) -> str:
    return f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"
