"""Recipes: a method as one YAML file, checked before anything is computed, compiled to what each service is told."""

from preceptor.recipes.alarms import AlarmRule, Alarms, EarlyStop
from preceptor.recipes.compile import CompiledRecipe, Grading, SourcePlan, TeacherPlan, compile_recipe, findings_of
from preceptor.recipes.copies import Copy
from preceptor.recipes.evaluation import is_match
from preceptor.recipes.json_schema import recipe_json_schema
from preceptor.recipes.load import load_recipe, recipe_from
from preceptor.recipes.objective import SCHEMA, ObjectiveSpec, TermSpec, objective_from_json
from preceptor.recipes.run_config import RunConfig
from preceptor.recipes.schedules import Number, Ramp, at_step
from preceptor.recipes.schema import ALL_LINEAR, STUDENT, Lora, Optimizer, OpUse, Recipe, Training

__all__ = [
    "ALL_LINEAR",
    "SCHEMA",
    "STUDENT",
    "AlarmRule",
    "Alarms",
    "CompiledRecipe",
    "Copy",
    "EarlyStop",
    "Grading",
    "Lora",
    "Number",
    "ObjectiveSpec",
    "OpUse",
    "Optimizer",
    "Ramp",
    "Recipe",
    "RunConfig",
    "SourcePlan",
    "TeacherPlan",
    "TermSpec",
    "Training",
    "at_step",
    "compile_recipe",
    "findings_of",
    "is_match",
    "load_recipe",
    "objective_from_json",
    "recipe_from",
    "recipe_json_schema",
]
