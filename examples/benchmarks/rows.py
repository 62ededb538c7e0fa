"""
The rows of the table by their numbers.

``python rows.py <row> '<plan as JSON>' <file>`` measures one row and writes the result as JSON. ``run.py`` does this
for all rows.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import rows_of_networks
import rows_of_parts
import rows_of_training
import rows_of_updates
import torch as th
from measure import Plan, RowResult

ROWS: dict[int, Callable[[Plan], RowResult]] = {
    1: rows_of_training.schedule,
    2: rows_of_training.whole_run,
    3: rows_of_training.stock_callbacks,
    4: rows_of_training.callback_that_says_nothing,
    5: rows_of_training.adam_per_step,
    6: rows_of_updates.adam_updates,
    7: rows_of_training.tuned,
    8: rows_of_updates.updates_by_hand,
    9: rows_of_training.study,
    10: rows_of_parts.first_training,
    11: rows_of_parts.long_run,
    12: rows_of_parts.tests,
    13: rows_of_parts.stepping,
    14: rows_of_parts.large_memory,
    15: rows_of_parts.imports,
    16: rows_of_networks.cartpole,
    17: rows_of_networks.wide,
    18: rows_of_networks.updates_of_vectors,
    19: rows_of_networks.parts,
    20: rows_of_networks.quantiles,
    21: rows_of_networks.tuned_networks,
}


def main() -> None:
    """Measure one row."""
    row, plan, file = sys.argv[1:]
    th.set_num_threads(1)
    result = ROWS[int(row)](Plan(**json.loads(plan)))
    for line in result.lines:
        line.row = int(row)
    result.remarks = [f"Row {row}: {remark}" for remark in result.remarks]
    Path(file).write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
