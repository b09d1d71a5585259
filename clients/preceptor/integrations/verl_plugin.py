"""Importing this puts `PreceptorTeacherManager` in place of verl's own.

    actor_rollout_ref.model.external_lib=preceptor.integrations.verl_plugin

verl imports that library in each worker before it looks its teacher manager up.
"""

# verl lives in an environment of its own
# pyright: basic, reportMissingImports=false

from verl.experimental.teacher_loop import teacher_manager

from preceptor.integrations.verl import PreceptorTeacherManager

teacher_manager.AsyncTeacherLLMServerManager = PreceptorTeacherManager
