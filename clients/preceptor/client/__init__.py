"""Clients of the services: typed values in and out, deadlines, retries, one error tree."""

from preceptor.client.channel import Connection, Target
from preceptor.client.grading import GradeOptions
from preceptor.client.rollout import AsyncRolloutClient, GenerateOptions, Prompt, RolloutClient
from preceptor.client.student import AsyncStudentClient
from preceptor.client.teacher import AsyncTeacherClient, ScoreItem, ScoreOptions, TeacherClient

__all__ = [
    "AsyncRolloutClient",
    "AsyncStudentClient",
    "AsyncTeacherClient",
    "Connection",
    "GenerateOptions",
    "GradeOptions",
    "Prompt",
    "RolloutClient",
    "ScoreItem",
    "ScoreOptions",
    "Target",
    "TeacherClient",
]
