"""Whether the tokenizer keeps texts, its template renders a conversation, and what is rendered fits where it is to go."""

from collections.abc import Iterator

from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.subject import Subject
from w2sr_jax.text.render import Renderer

_QUESTION = "Ann has 3 apples and finds 4 more . How many apples does Ann have ?"
_RESPONSE = "3 + 4 = 7 #### 7"
_SOME = 200  # problems that are rendered


def tokenizer(subject: Subject, findings: Findings) -> None:
    """Does the template render a conversation whose response follows the prompt and ends once? Do the texts survive?"""
    settings = subject.experiment.tokenizer
    if isinstance(subject.opened, UserError):
        raise subject.opened
    renderer = subject.renderer
    own = settings.opened_from()
    if renderer is None:
        findings.see("made of the run's own texts")
        if subject.sample is None:
            return
    else:
        findings.see(f"{renderer.vocab_size:,} tokens" + (f", {sentences.shown(own)}" if own is not None else ""))
    trial = subject.sample
    assert trial is not None
    rendered = 0
    for question, response in _texts(subject, probe=own is not None):
        ids = trial.encode(question, response)
        prompt = trial.prompt(question)
        _sound(trial, prompt, ids.tokens)
        rendered += 1
    findings.see(f"{rendered:,} conversations rendered, each response behind its prompt and ended by {_end(trial)}")


def lengths(subject: Subject, findings: Findings) -> None:
    """Do texts fit into rows, and rows and answers into what the models were made for?"""
    experiment = subject.experiment
    try:
        trial = subject.sample
    except UserError:  # said of the tokenizer
        return
    if trial is None:
        return
    questions = [problem.question for problem in subject.some[:_SOME]]
    responses = [(p.question, p.solution) for p in subject.some[:_SOME] if p.solution and not trial.refusal(p.solution)]
    traces = [trace.text for teacher in subject.loaded.values() for trace in teacher.traces[:_SOME]]
    prompt = max(map(len, trial.prompts(questions)), default=0)
    whole = max((len(each.tokens) for each in trial.encode_all([(q, r, "reason") for q, r in responses])), default=0)
    written = max(map(len, trial.tokenizer.encode(traces)), default=0) if traces else 0
    if not prompt:
        return
    longest = f"prompts up to {prompt:,} tokens, worked solutions up to {whole:,}, traces up to {written:,}"
    findings.see(f"of the first texts: {longest}")
    for length, where in sorted({(t.training.batching.length, t.where) for t in subject.trainings}):
        if length < prompt + 2:
            findings.remark(f"{where}: rows of {length:,} tokens leave out questions whose prompts alone take {prompt:,}")
        elif length < (most := max(whole, prompt + written)) - 1:
            findings.remark(f"{where}: rows of {length:,} tokens leave out the longest texts, of {most:,}")
    for where, config, context in _contexts(subject):
        asked = prompt + experiment.decoding.max_tokens
        if context and asked > context:
            findings.remark(f"{where}: prompts and answers take up to {asked:,} tokens, and the model was made for {context:,}")
        lengths_of = [t.training.batching.length for t in subject.trainings if t.model.config == config]
        if context and lengths_of and max(lengths_of) > context:
            findings.remark(
                f"{where}: rows have {max(lengths_of):,} tokens, and the model was made for examples of up to {context:,}"
            )


def _texts(subject: Subject, probe: bool) -> Iterator[tuple[str, str]]:
    if probe:
        yield _QUESTION, _RESPONSE
    for problem in subject.some[:_SOME]:
        yield problem.question, problem.solution or f"#### {problem.answer}"


def _sound(renderer: Renderer, prompt: list[int], ids: list[int]) -> None:
    """`UserError` where a rendered conversation is not its prompt, a response and one end of turn, in ids of the vocabulary."""
    end = renderer.tokenizer.end_of_turn
    if ids[: len(prompt)] != prompt:
        raise UserError("the tokenizer's chat template writes another prompt before a response than without one")
    if ids[-1] != end or end in ids[len(prompt) : -1]:
        raise UserError("the tokenizer's chat template does not end a response with its end-of-turn token, once")
    if max(ids) >= renderer.tokenizer.embedding_rows or min(ids) < 0:
        raise UserError(f"the tokenizer gives the id {max(ids)}, beyond its own {renderer.tokenizer.embedding_rows:,} tokens")


def _end(renderer: Renderer) -> str:
    return sentences.value(renderer.tokenizer.pieces([renderer.tokenizer.end_of_turn])[0])


def _contexts(subject: Subject) -> Iterator[tuple[str, ModelConfig, int]]:
    """Models whose parameters are given, and the tokens that their own settings say they were made for."""
    trainings = subject.stages.trainings.values()
    named = [(stage.model.name, stage.model.config, item.name) for stage in trainings for item in stage.weights]
    for name, config, ref in named:
        try:
            path = hub.at_hand(ref, "weights")
            raw = files.read_json(path / "config.json") if path and (path / "config.json").is_file() else {}
        except UserError:  # said of the weights
            continue
        inner = raw.get("text_config") if isinstance(raw, dict) else None
        context = (inner if isinstance(inner, dict) else raw).get("max_position_embeddings")
        if isinstance(context, int):
            yield name, config, context
