"""The source of a student that learns from its own answers: drawn before every step, graded, rewarded and written down, so that
each step is addressed by its number like any other and an interrupted training goes on through the same answers."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.batches.batch import Batch
from w2sr_jax.core import files, keys, records
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.records import Problem, Rollout, Verdict
from w2sr_jax.parallel import processes
from w2sr_jax.sampling import traces as texts
from w2sr_jax.training.policy import observed, rows
from w2sr_jax.training.policy.drawing import Drawing
from w2sr_jax.training.policy.draws import Draws
from w2sr_jax.training.policy.rewards import rewarded
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.state import TrainState


class Drawn(NamedTuple):
    """What a step reads: its rows, what was observed of all rollouts of its draw, by name, and whether the student is still the
    one that drew them."""

    rows: Batch
    observed: Mapping[str, float]
    fresh: bool


class Spent(NamedTuple):
    """What all draws of a training took: answers, their tokens, and tokens of prompts that were read."""

    rollouts: int
    tokens: int
    read: int


class RolloutSource:
    """Satisfies `Source`. `whole` makes the student's parameters of a state's."""

    needs_state = True

    def __init__(
        self,
        draws: Draws,
        grader: Grader,
        problems: Sequence[Problem],
        drawing: Drawing,
        whole: Callable[[Any], Any],
        ways: int,
    ) -> None:
        """`ways` is over how many devices, or groups of them, the training splits the rows of a step. `UserError` where there are
        fewer problems than a draw asks, or the longest prompt leaves no room for an answer."""
        self._draws, self._grader, self._problems, self._drawing = draws, grader, list(problems), drawing
        self._whole, self._folder, self._sharing = whole, drawing.folder, drawing.sharing
        self._by_id = {problem.id: problem for problem in self._problems}
        self._latest: tuple[int, list[Rollout]] | None = None
        self._next: tuple[int, list[Future[list[Rollout]]]] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="grading")
        self._stop: Callable[[], bool] | None = None
        self._shape = self._checked(ways)
        self.steps = draws.steps
        ids = [problem.id for problem in self._problems]
        self.digest = files.digest_json(
            [ids, drawing.seed, drawing.name, draws.steps, draws.problems, draws.samples, draws.reuse]
        )

    @property
    def paths(self) -> list[Path]:
        """The rollouts of all draws, in order."""
        return [self._path(draw) for draw in range(self._draws.number)]

    def spent(self) -> Spent:
        """Of all draws, from what was written down."""
        rollouts = tokens = read = 0
        prompts = self._drawing.renderer.prompts([problem.question for problem in self._problems], self._drawing.style)
        lengths = {problem.id: len(prompt) for problem, prompt in zip(self._problems, prompts, strict=True)}
        for path in self.paths:
            drawn = records.read(path, Rollout)
            rollouts += len(drawn)
            tokens += sum(rollout.tokens for rollout in drawn)
            read += sum(lengths[problem] for problem in {rollout.problem_id for rollout in drawn})
        return Spent(rollouts, tokens, read)

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stop = hooks.stop if processes.count() == 1 else None
        return {}

    def batch_at(self, step: int, state: TrainState | None) -> Drawn:
        assert state is not None
        draw, again = divmod(step, self._draws.reuse)
        rollouts = self._rollouts(draw, state)
        if self._draws.ahead and not again and draw + 1 < self._draws.number:
            self._draw_ahead(draw + 1, state)
        self._check_variance(draw, rollouts)
        fresh = not again and not (self._draws.ahead and draw)
        return Drawn(self._rows(rollouts), observed.of(self._draws, rollouts), fresh)

    def tokens(self, batch: Drawn) -> int:
        return int(np.count_nonzero(batch.rows.segments))

    def _path(self, draw: int) -> Path:
        return self._folder / f"rollouts-{draw:06d}.parquet"

    def _ungraded_path(self, draw: int) -> Path:
        return self._folder / f"drawn-{draw:06d}.parquet"

    def _rollouts(self, draw: int, state: TrainState) -> list[Rollout]:
        if self._latest is None or self._latest[0] != draw:
            path = self._path(draw)
            if not self._stands(path):
                drawn = self._rewarded(draw, state)
                if processes.is_first():
                    weighed = self._draws.weighed(drawn)
                    records.write(path, Rollout, weighed)
                    self._sharing.publish([path])
                    self._latest = draw, weighed
                processes.barrier(f"rollouts {draw}")
                self._sharing.obtain(path)
            if self._latest is None or self._latest[0] != draw:
                self._latest = draw, records.read(path, Rollout)
        return self._latest[1]

    def _stands(self, path: Path) -> bool:
        """Whether a draw was written down, as the first process sees it. All processes must call it."""
        if processes.is_first():
            self._sharing.obtain(path)
        facts = processes.barrier(f"is {path.name} there", {"*stands": str(path.exists())})
        if facts["*stands"] != "True":
            return False
        self._sharing.obtain(path)
        return True

    def _rewarded(self, draw: int, state: TrainState) -> list[Rollout]:
        """The rollouts of a draw with their rewards, at the first process."""
        if self._next is not None and self._next[0] == draw:
            (_, groups), self._next = self._next, None
            return [rollout for group in groups for rollout in group.result()]
        if self._draws.ahead and self._stands(self._ungraded_path(draw)):
            return [rollout for group in self._read_groups(draw) for rollout in self._judge(group)]
        rollouts: list[Rollout] = []
        params = self._whole(state.params)
        for again in range(1 + self._draws.redraws):
            asked = self._asked(draw, again)
            groups = [self._pool.submit(self._judge, group) for group in self._drawn(draw, params, asked)]
            own = [rollout for group in groups for rollout in group.result()]
            rollouts += self._drawing.gather(f"{draw}-{again}", own, [problem.id for problem in asked])
            if not self._draws.redraws or self._enough(f"{draw}-{again}", rollouts):
                break
        return rollouts

    def _drawn(self, draw: int, params: Any, asked: Sequence[Problem]) -> Iterator[list[Rollout]]:
        """This process's answers to problems, ungraded, problem by problem as they end. `Stopped` where one process alone is
        asked to stop."""
        for problem, answers in self._drawing.groups(draw, params, asked, self._draws.samples):
            yield [self._ungraded(draw, problem, answer) for answer in answers]
            if self._stop is not None and self._stop():
                raise Stopped(f"stopped while answers of draw {draw} were drawn")

    def _draw_ahead(self, draw: int, state: TrainState) -> None:
        """Draws for the next step with the state before this one, and leaves grading to a thread. What was drawn is written down
        first: that state will be gone."""
        if self._next is not None or self._stands(self._path(draw)) or self._stands(self._ungraded_path(draw)):
            return
        asked, path = self._asked(draw, 0), self._ungraded_path(draw)
        own = [rollout for group in self._drawn(draw, self._whole(state.params), asked) for rollout in group]
        gathered = self._drawing.gather(f"{draw}-0", own, [problem.id for problem in asked])
        if processes.is_first():
            records.write(path, Rollout, gathered)
            self._sharing.publish([path])
        processes.barrier(f"drawn {draw}")
        self._next = draw, [self._pool.submit(self._judge, group) for group in self._draws.groups(gathered)]

    def _read_groups(self, draw: int) -> list[list[Rollout]]:
        read = records.read(self._ungraded_path(draw), Rollout) if processes.is_first() else []
        return self._draws.groups(read)

    def _asked(self, draw: int, again: int) -> list[Problem]:
        """The problems of a draw, each once, from an order of all problems that is another one in each pass over them; a pass
        consists of whole draws, and leaves out what is too little for one more. Where a draw asks more (`again` counts), they
        come from an order of its own of the others."""
        count, own = self._draws.problems, self._drawing
        if not again:
            number, place = divmod(draw, len(self._problems) // count)
            return [self._problems[index] for index in self._order(number)[place * count : (place + 1) * count]]
        asked = {problem.id for problem in self._asked(draw, 0)}
        rest = [problem for problem in self._problems if problem.id not in asked]
        order = keys.generator(own.seed, "ask again", own.name, draw).permutation(len(rest))
        return [rest[index] for index in order[(again - 1) * count : again * count]]

    def _order(self, number: int) -> np.ndarray:
        own = self._drawing
        order: np.ndarray = keys.generator(own.seed, "ask", own.name, number).permutation(len(self._problems))
        return order

    def _ungraded(self, draw: int, problem: Problem, answer: texts.Drawn) -> Rollout:
        completion = answer.completion
        return Rollout(
            id=files.digest_json([self._drawing.name, draw, problem.id, answer.sample])[:16],
            step=draw,
            problem_id=problem.id,
            sample=answer.sample,
            text=answer.text,
            answer=None,
            verdict="ungraded",
            finish=completion.finish,
            tokens=len(completion.tokens),
            token_ids=tuple(completion.tokens),
            logprobs=tuple(completion.logprobs),
            sampled=tuple(completion.sampled or ()),
        )

    def _judge(self, group: Sequence[Rollout]) -> list[Rollout]:
        """Answers to one problem, graded and rewarded."""
        problem = self._by_id[group[0].problem_id]
        verdicts = grade_all(self._grader, [rollout.text for rollout in group], [problem] * len(group))
        return [self._judged(rollout, problem, verdict) for rollout, verdict in zip(group, verdicts, strict=True)]

    def _judged(self, rollout: Rollout, problem: Problem, verdict: Verdict) -> Rollout:
        graded = dataclasses.replace(rollout, **dataclasses.asdict(verdict))
        own = rewarded(self._draws.rewards, graded.trace(self._drawing.name), problem)
        return dataclasses.replace(graded, rewards=own, reward=sum(own.values()))

    def _enough(self, name: str, rollouts: Sequence[Rollout]) -> bool:
        """Whether a draw needs no further problems, as the first process sees it."""
        draws = self._draws
        enough = draws.varied(rollouts) >= draws.problems or len(rollouts) >= len(self._problems) * draws.samples
        return processes.barrier(f"enough {name}", {"*enough": str(enough)})["*enough"] == "True"

    def _rows(self, rollouts: Sequence[Rollout]) -> Batch:
        chosen, weights = self._draws.learned_from(rollouts, self._drawing.decoding.max_tokens)
        own = [self._by_id[rollout.problem_id] for rollout in chosen]
        return rows.batch(chosen, own, weights, self._drawing.renderer, self._drawing.style, self._shape)

    def _checked(self, ways: int) -> rows.Shape:
        """The rows of a step, which hold whatever is drawn."""
        draws, most = self._draws, self._drawing.decoding.max_tokens
        if len(self._problems) < draws.problems:
            raise UserError(
                f"a draw asks {draws.problems:,} problems, and there are {len(self._problems):,}; lower its problems, or enlarge "
                "the pool"
            )
        prompts = self._drawing.renderer.prompts([problem.question for problem in self._problems], self._drawing.style)
        needed = max(map(len, prompts)) + most - 1
        if needed > draws.length:
            raise UserError(
                f"the longest prompt with an answer of {most:,} tokens (decoding.max_tokens) takes {needed:,} positions, and a "
                f"row has {draws.length:,}; raise training.batching.length, or lower decoding.max_tokens"
            )
        return rows.Shape.holding(draws.rollouts, needed, draws.length, draws.parts, ways, draws.alone)

    def _check_variance(self, draw: int, rollouts: Sequence[Rollout]) -> None:
        """`UserError` where nothing could be learned from `patience` draws in a row."""
        draws, patience = self._draws, self._draws.patience
        if not patience or draw + 1 < patience or draws.varied(rollouts):
            return
        earlier = (records.read(self._path(each), Rollout) for each in range(draw - 1, draw - patience, -1))
        if not any(draws.varied(each) for each in earlier):
            raise UserError(
                f"in {patience} draws in a row all answers to each problem had one reward (at last {rollouts[0].reward:g}), so "
                "that there is nothing to learn: a grader that is never right, or problems that are too hard or too easy for "
                "the student, do that; look at its answers with w2sr explain, or let it imitate first"
            )
