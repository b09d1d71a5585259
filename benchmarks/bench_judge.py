"""`make bench-judge`: SmolLM2-135M-Instruct as a real judge, behind the stand-in's sockets, asked by the grader `verbal`.

The model itself answers: nothing is played. It is asked with the reply's JSON forced (`shaped`, what providers call structured
output: the stand-in lets the model choose among the eleven verdicts), twice with other fences and numbers, and once as it writes
(`free`). Then wrong answers are judged with a text behind them: harmless sentences, and what the suite of
injections would write to a judge. Answers are kept in `runs/judge/answers.jsonl`; a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.judge.cases import Case, cases
from benchmarks.judge.figures import Answer, figures
from benchmarks.results import RESULTS, where_and_when
from benchmarks.streaming.smollm2 import smollm2
from preceptor_teacher.api import ApiOptions, ChatClient
from preceptor_teacher.graders.verbal import Verbal, VerbalParams
from preceptor_teacher.testing import standing_in

KEPT = Path("runs/judge/answers.jsonl")
TIMEOUT_S = 600.0
REPLY_TOKENS = 48


async def ask_all(folder: Path, kept: Path, asked: Sequence[Case]) -> list[Answer]:
    """An answer for each case; those that are kept are not asked again."""
    known = _taken_up(kept, asked)
    async with standing_in(folder, name="smollm2", plays_judge=False) as provider:
        for number, case in enumerate(asked, 1):
            if case.key not in known:
                answer = known[case.key] = await _answer(provider.base_url, case)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(_line(answer))
                print(
                    f"{number} of {len(asked)}: {case.key}: {answer.score if answer.reason == '' else answer.reason}", flush=True
                )
    return [known[case.key] for case in asked]


def read_kept(kept: Path, asked: Sequence[Case]) -> dict[str, Answer]:
    """The answers of a run that was stopped, by key; a line that was cut off is asked again."""
    by_key = {case.key: case for case in asked}
    found: dict[str, Answer] = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else ():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if told["key"] in by_key:
            found[told["key"]] = Answer(by_key[told["key"]], told["score"], told["reason"], told["calls"])
    return found


def _taken_up(kept: Path, asked: Sequence[Case]) -> dict[str, Answer]:
    """What is kept, in a file without a line that was cut off."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    known = read_kept(kept, asked)
    kept.write_text("".join(map(_line, known.values())), encoding="utf-8")
    return known


def _line(answer: Answer) -> str:
    kept = {"key": answer.case.key, "score": answer.score, "reason": answer.reason, "calls": answer.calls}
    return json.dumps(kept) + "\n"


async def _answer(base_url: str, case: Case) -> Answer:
    """Without a secret fences and numbers are drawn anew, so a second round is another question."""
    options = ApiOptions(
        base_url=base_url,
        model="smollm2",
        private_hosts=("127.0.0.1",),
        timeout_s=TIMEOUT_S,
        deadline_s=2 * TIMEOUT_S,
        max_reply_tokens=REPLY_TOKENS,
        structured_output=case.mode == "shaped",
        reply_cache_bytes=0,
    )
    client = ChatClient(options)
    try:
        verdict = await Verbal(VerbalParams(), client.complete).grade(case.item)
    finally:
        await client.close()
    return Answer(case, verdict.reward, verdict.reason, verdict.calls)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of another model; unset: SmolLM2, fetched once")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where answers are kept")
    parser.add_argument("--most", type=int, help="only the first so many cases")
    given = parser.parse_args(arguments)
    answers = asyncio.run(ask_all(given.model or smollm2(), given.kept, cases()[: given.most]))
    found = {"figures": figures(answers), **where_and_when()}
    print(json.dumps(found, indent=1))
    if given.model is None and given.most is None:
        (RESULTS / "judge.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
