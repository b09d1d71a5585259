"""The queue door: leases tasks, scores what their logs have grown by, commits rows.

view     a task and its log -> one sequence, its rows, their candidates (pure)
logs     what is known of logs, so that growth alone is read
lease    one leased task, from its log to its committed rows
holdings how much is held of each flow, and how much more is taken (pure)
points   named places where a test may end the process
worker   which tasks to lease, how many, and how they end
"""

from preceptor_teacher.worker.policy import WorkerPolicy
from preceptor_teacher.worker.worker import QueueWorker

__all__ = ["QueueWorker", "WorkerPolicy"]
