"""What is written down of vLLM's arguments is what the tested release has."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="vLLM is in an environment of its own: make test-vllm")

from preceptor_serving.vllm.arguments import installed_arguments, is_another_release, written_arguments

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


def test_the_arguments_that_are_written_down_are_those_of_this_release():
    assert not is_another_release()
    assert written_arguments() == {name for name in installed_arguments() if not name.startswith("_")}
