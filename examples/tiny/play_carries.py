"""`python -m examples.tiny.play_carries`: what the pair does with the tool of `carries.py`, by the role of its answers.

Greedy replies to the first held-out sums: how many of the calls were the right ones, turn by turn, and how many answers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from examples.tiny.carries import Carries, Sum
from examples.tiny.decode import MAX_RESPONSE_TOKENS, MODEL_DIRS, load_model, text_of
from examples.tiny.task import DIGITS, Problem, load
from examples.tiny.tokenizer import EOS_ID, prompt_ids, text_ids
from preceptor.wire import ids_from_proto
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.environments import Message
from preceptor_rollout.render import render
from preceptor_rollout.vocabulary import Vocabulary

STOP_IDS = (EOS_ID, *text_ids("="))
ANSWER = "answer"


@torch.no_grad()
def reply(model: PreTrainedModel, context: Sequence[int]) -> list[int]:
    """The likeliest tokens, up to a call or the end."""
    ids, past, drawn = torch.tensor([context]), None, list[int]()
    while len(drawn) < MAX_RESPONSE_TOKENS and not (drawn and drawn[-1] in STOP_IDS):
        out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
        drawn.append(int(ids))
    return drawn


def observation(vocabulary: Vocabulary, message: Message) -> list[int]:
    """What the model reads behind its reply, as the rollout service renders it."""
    item = rollout_pb2.RenderItem()
    item.after_reply.messages.add(role=message.role, content=message.content)
    item.after_reply.add_generation_prompt = True
    return ids_from_proto(render(rollout_pb2.RenderRequest(items=[item]), vocabulary).ids[0]).tolist()


def play(model: PreTrainedModel, vocabulary: Vocabulary, problem: Problem, role: str) -> list[str]:
    """The turns that were right: a call by its number, or the answer."""
    tool, state, ids, right = Carries(), Sum.of(problem), prompt_ids(problem.prompt), list[str]()
    for turn in range(DIGITS + 1):
        drawn = reply(model, ids)
        answer = tool.step(state, text_of(drawn).removesuffix("="))
        if answer.reward:
            right.append(f"call {turn + 1}" if answer.messages else ANSWER)
        if not answer.messages:
            break
        ids += [*drawn, *observation(vocabulary, Message(role, answer.messages[0].content))]
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sums", type=int, default=64)
    sums = load("heldout")[: parser.parse_args().sums]
    turns = [*(f"call {turn + 1}" for turn in range(DIGITS)), ANSWER]
    print("| role | model | " + " | ".join(turns) + " |")
    print("| --- " * (len(turns) + 2) + "|")
    for role in ("user", "tool"):
        for name in ("teacher", "student"):
            model, vocabulary = load_model(name), Vocabulary.of(MODEL_DIRS[name])
            right = Counter(turn for one in sums for turn in play(model, vocabulary, one, role))
            print(f"| {role} | {name} | " + " | ".join(str(right[turn]) for turn in turns) + " |", flush=True)


if __name__ == "__main__":
    main()
