"""The queue door: leases tasks, scores what their logs have grown by or judges their texts, commits rows or verdicts.

view     a task and its log -> one sequence, its rows, their candidates (pure)
logs     what is known of logs, so that growth alone is read
tending  one lease in hand: kept alive, and ended one way or another
lease    a task of a scorer, from its log to its committed rows
grades   a task of a judge, from its texts to its committed verdicts
trades   which of the two a worker does, and for whom
holdings how much is held of each flow, and how much more is taken (pure)
points   named places where a test may end the process
worker   which tasks to lease, how many, and how they end
"""

from preceptor_teacher.worker.policy import WorkerPolicy
from preceptor_teacher.worker.trades import Grading, Scoring, Trade
from preceptor_teacher.worker.worker import QueueWorker

__all__ = ["Grading", "QueueWorker", "Scoring", "Trade", "WorkerPolicy"]
