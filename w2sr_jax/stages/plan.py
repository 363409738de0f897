"""The tasks of a run, in an order in which each comes after what it needs. Nothing is computed here."""

import dataclasses
from functools import partial

from w2sr_jax.experiment import BASE, GOLD, Experiment, FromCheckpoint, FromParent, Graduate, ModelTeacher, Teacher
from w2sr_jax.graph.stage import Task
from w2sr_jax.problems.settings import Files
from w2sr_jax.stages import curate, evaluate, external, models, problems, traces, train
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.report import assemble, on_file
from w2sr_jax.teachers.served.request import steering
from w2sr_jax.teachers.settings import Recorded, Served


def tasks(experiment: Experiment) -> list[Task]:
    """All tasks of a run with one seed."""
    seed = experiment.seeds[0]
    recorded = tuple(teacher for teacher in experiment.teachers if isinstance(teacher, Recorded))
    sources = (experiment.problems, experiment.test_problems, *recorded)
    facts = tuple(rung.start for rung in experiment.rungs if hasattr(rung.start, "facts"))
    asked = (experiment.problems, experiment.test_problems, experiment.splits, recorded)
    data = tuple(external.data(source.path) for source in sources if isinstance(source, Files | Recorded))
    plan = [
        Task("problems", "prepare", asked, (), problems.problems, given=data),
        Task("tokenizer", "prepare", (experiment.tokenizer, experiment.problems, facts), ("problems",), problems.tokenizer),
    ]
    for teacher in experiment.teachers:
        if isinstance(teacher, ModelTeacher):
            model = models.teacher(teacher)
            settings = (teacher.model, teacher.training, teacher.checkpoint, experiment.mesh, seed)
            work = partial(train.train_teacher, teacher=teacher)
            weights = () if teacher.checkpoint is None else (external.weights(teacher.checkpoint),)
            plan.append(Task(model.task, "train", settings, ("problems", "tokenizer"), work, given=weights))
            plan.append(_evaluation(experiment, model))
        if isinstance(teacher, Recorded):
            plan.append(_on_file(experiment, teacher))
    for index in range(len(experiment.rungs)):
        plan.extend(_rung_tasks(experiment, index))
    measured = tuple(task.name for task in plan if task.kind in ("evaluate", "curate"))
    return [*plan, Task(assemble.REPORT, "report", (experiment,), measured, assemble.report)]


def _rung_tasks(experiment: Experiment, index: int) -> list[Task]:
    rung, seed, mesh = experiment.rungs[index], experiment.seeds[0], experiment.mesh
    directory = models.rung_directory(experiment, index)
    base, start = models.student(experiment, index, BASE), rung.start
    known = {teacher.name: teacher for teacher in experiment.teachers}
    parent = (models.student(experiment, index - 1, start.arm).task,) if isinstance(start, FromParent) else ()
    graduates = [teacher for name in rung.teachers if isinstance(teacher := known[name], Graduate)]
    parents = (*parent, *(models.student(experiment, index - 1, teacher.arm).task for teacher in graduates))
    initial = (external.weights(start.path),) if isinstance(start, FromCheckpoint) else ()
    settings = (rung.model, start, mesh, seed)
    work = partial(train.make_base, index=index)
    needs = ("problems", "tokenizer", *parent)
    found = [Task(base.task, "train", settings, needs, work, rung=index, given=initial, parents=parents)]

    samples = [dataclasses.replace(_sampling(experiment, index, known[name]), parents=parents) for name in rung.teachers]
    names = tuple(task.name for task in samples)
    weights = tuple(known[name].weight for name in rung.teachers)
    curation = Task(
        f"{directory}/curation",
        "curate",
        (rung.curation, rung.arms, rung.gold, rung.pool, rung.teachers, weights),
        ("problems", "tokenizer", *names),
        partial(curate.curate_rung, index=index),
        rung=index,
        parents=parents,
    )
    found += [*samples, curation]
    for arm in (*rung.arms, *((GOLD,) if rung.gold else ())):
        looks = (rung.probe, experiment.grader, experiment.decoding) if rung.probe.every else ()
        settings = (rung.model, rung.training, rung.objective, mesh, seed, *looks)
        work = partial(train.train_arm, index=index, arm=arm)
        needs = ("tokenizer", curation.name, base.task)
        name = models.student(experiment, index, arm).task
        found.append(Task(name, "train", settings, needs, work, rung=index, parents=parents, may_skip=True))
    for model in models.evaluated(experiment, index):
        held_out = (curation.name, *names) if model.role in ("student", GOLD) else ()
        found.append(_evaluation(experiment, model, held_out))
    return found


def _sampling(experiment: Experiment, index: int, teacher: Teacher) -> Task:
    rung, grader = experiment.rungs[index], experiment.grader
    name = f"{models.rung_directory(experiment, index)}/traces-{teacher.name}"
    if isinstance(teacher, Recorded):
        work = partial(traces.record, index=index, teacher=teacher)
        data = (external.data(teacher.path),)
        return Task(name, "sample", (teacher, rung.pool, grader), ("problems",), work, rung=index, given=data)
    if isinstance(teacher, Served):
        work = partial(traces.ask, index=index, teacher=teacher)
        asked = (teacher.name, teacher.samples, steering(teacher), rung.pool, grader, experiment.seeds[0])
        return Task(name, "sample", asked, ("problems",), work, rung=index)
    model = models.student(experiment, index - 1, teacher.arm) if isinstance(teacher, Graduate) else models.teacher(teacher)
    settings = (
        teacher.name,
        teacher.samples,
        teacher.decoding,
        teacher.token_budget,
        rung.pool,
        grader,
        experiment.mesh,
        experiment.seeds[0],
    )
    work = partial(traces.sample, index=index, teacher=teacher, model=model)
    return Task(name, "sample", settings, ("problems", "tokenizer", model.task), work, rung=index)


def _on_file(experiment: Experiment, teacher: Recorded) -> Task:
    settings = (teacher, experiment.evaluation, experiment.grader)
    work = partial(on_file.evaluate, teacher=teacher)
    return Task(f"evaluations/{teacher.name}", "evaluate", settings, ("problems",), work, given=(external.data(teacher.path),))


def _evaluation(experiment: Experiment, model: Model, held_out: tuple[str, ...] = ()) -> Task:
    asked: tuple[object, ...] = (model.name, model.style)
    if model.rung is not None:
        asked += (experiment.rungs[model.rung].pool, *traces.foreign_teachers(experiment, model.rung))
    settings = (asked, experiment.evaluation, experiment.decoding, experiment.grader, experiment.mesh, experiment.seeds[0])
    work = partial(evaluate.evaluate, model=model, held_out=bool(held_out))
    needs = ("problems", "tokenizer", model.task, *held_out)
    return Task(f"evaluations/{model.name}", "evaluate", settings, needs, work, rung=model.rung)
