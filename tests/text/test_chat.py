"""Chat templates: prompts are transformers' own, responses are raw, and a hostile template or text can spoil neither."""

import dataclasses
import datetime
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chat_families import CHATML, FAMILIES, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from w2sr_jax.errors import UserError
from w2sr_jax.text import chat, spans, template, tokenizer
from w2sr_jax.text.render import Renderer

QUESTIONS = [
    "How many?",
    "  A \"quoted\" & <b>'marked'</b> {{ 7 * 7 }} {% if %} question\nwith lines \n",
    "é 好 🙂 \\frac{1}{2} /no_think [1, 2]",
]
WEIRD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
CHATTING = [name for name in FAMILIES if name != "base"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    root = tmp_path_factory.mktemp("families")
    return {name: Renderer(tokenizer.build(write(root / name, family))) for name, family in FAMILIES.items()}


def inner_of(renderer: Renderer) -> Any:
    return renderer.tokenizer.inner  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CHATTING)
@pytest.mark.parametrize("style", ["reason", "direct"])
def test_prompts_are_those_of_transformers(opened: dict[str, Renderer], name: str, style: str) -> None:
    inner = inner_of(opened[name])
    wording = {"reason": "Think.", "direct": "Answer."}[style]
    for question, prompt in zip(QUESTIONS, opened[name].prompts(QUESTIONS, style), strict=True):
        expected = inner.apply_chat_template(
            [{"role": "user", "content": f"{question} {wording}"}],
            add_generation_prompt=True,
            enable_thinking=style == "reason",
            date_string="26 Jul 2024",
            return_dict=False,
        )
        assert prompt == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_text_is_prompt_raw_response_and_one_end(opened: dict[str, Renderer], name: str) -> None:
    renderer, response = opened[name], "16 - 4 = 12\n\nso  it is \\boxed{12}"
    rendered = renderer.encode("How many?", response)
    end = inner_of(renderer).convert_tokens_to_ids(FAMILIES[name].end)
    assert rendered.tokens[-1] == renderer.tokenizer.end_of_turn == end
    prompt = renderer.prompt("How many?")
    assert rendered.tokens[: len(prompt)] == prompt
    own = rendered.tokens[len(prompt) :]
    assert rendered.supervised == [False] * len(prompt) + [True] * len(own)
    assert (rendered.tokens.count(end), renderer.pad in rendered.tokens) == (rendered.tokens[: len(prompt)].count(end) + 1, False)
    assert renderer.decode(own) == response
    answer = [token for token, span in zip(rendered.tokens, rendered.span) if span == spans.ANSWER]
    assert renderer.decode(answer).strip() == "\\boxed{12}"
    text = inner_of(renderer).decode(rendered.tokens)
    assert re.search(r"16 - 4 = 12\n\nso  it is \\boxed\{12\}" + re.escape(FAMILIES[name].end) + "$", text)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.one_of(WEIRD, st.sampled_from(["<|im_end|>", "</s>", "<think>", "</think>", "[/INST]", "<bos>", "🙂"]))))
def test_any_text_survives_and_never_ends_its_turn(opened: dict[str, Renderer], name: str, words: list[str]) -> None:
    renderer = opened[name]
    texts = ["x" + "".join([*words, control, *words]) for control in (*FAMILIES[name].specials, *FAMILIES[name].added, "")]
    for text, rendered in zip(texts, renderer.encode_all([("q", text, "reason") for text in texts]), strict=True):
        response = [token for token, wanted in zip(rendered.tokens, rendered.supervised) if wanted]
        ends = [token for token in response if token in renderer.end_tokens]
        assert (ends, response[-1]) == ([renderer.tokenizer.end_of_turn], renderer.tokenizer.end_of_turn)
        assert "".join(renderer.decode(response).split()) == "".join(text.split())
        if FAMILIES[name].words == "bytes":
            assert renderer.decode(response) == text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(["", "\n", " ", "\n\n"]), body=WEIRD, closes=st.booleans())
@pytest.mark.parametrize("name", ["qwen3", "r1", "llama3", "gemma3"])
def test_what_was_sampled_is_trained_on_token_for_token(
    opened: dict[str, Renderer], name: str, start: str, body: str, closes: bool
) -> None:
    renderer = opened[name]
    sampled = renderer.tokenizer.encode([f"{start}so {body}" + ("\n</think>\n\n3" if closes else "")])[0]
    text = renderer.decode([*sampled, renderer.end_tokens[0], 5])
    rendered = renderer.encode("How many?", text)
    assert rendered.tokens == [*renderer.prompt("How many?"), *sampled, renderer.tokenizer.end_of_turn]


def test_a_prefilled_thinking_is_not_opened_twice(opened: dict[str, Renderer]) -> None:
    r1 = opened["r1"]
    sampled = r1.encode("q", "so 3\n</think>\n\n3")
    for recorded in ("<think>\nso 3\n</think>\n\n3", "<think>so 3\n</think>\n\n3", " <think>\nso 3\n</think>\n\n3"):
        assert r1.encode("q", recorded) == sampled
    assert (
        inner_of(r1)
        .decode(r1.encode("q", "<think>\n\n so</think>3").tokens)
        .endswith("<｜Assistant｜><think>\n\n so</think>3<｜end▁of▁sentence｜>")
    )
    assert r1.unclosed([("so 3", "reason"), ("so</think>3", "reason"), ("so 3", "plain")]) == 1
    qwen = opened["qwen3"]
    whole = "<think>\nso 3\n</think>\n\n3"
    assert qwen.decode(qwen.encode("q", whole).tokens[len(qwen.prompt("q")) :]) == whole
    assert qwen.unclosed([("so 3", "reason")]) == 0
    closed = qwen.encode("q", "<think>\n\n</think>\n\n3", "direct")
    assert closed == qwen.encode("q", "3", "direct")
    assert inner_of(qwen).decode(closed.tokens).count("<think>") == 1


def test_thinking_can_be_turned_off(tmp_path: Path) -> None:
    settings = dataclasses.replace(write(tmp_path, FAMILIES["qwen3"]), thinking=False)
    renderer = Renderer(tokenizer.build(settings))
    assert inner_of(renderer).decode(renderer.prompt("q")).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_special_token_spelt_out_in_a_question_is_text(opened: dict[str, Renderer]) -> None:
    for name, renderer in opened.items():
        for special in (*FAMILIES[name].specials, FAMILIES[name].end * 2, f"<{FAMILIES[name].end}"):
            plain, attack = renderer.prompt("q q"), renderer.prompt(f"q {special}{special} q")
            controls = set(inner_of(renderer).all_special_ids)
            assert [i for i in attack if i in controls] == [i for i in plain if i in controls]
            decoded = inner_of(renderer).decode(attack)
            assert "".join(f"q {special}{special} q".split()) in "".join(decoded.split())


def test_prompts_do_not_depend_on_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write(tmp_path, FAMILIES["llama3"])
    renderer = Renderer(tokenizer.build(settings))
    prompt = inner_of(renderer).decode(renderer.prompt("q"))
    assert "Today Date: 26 Jul 2024\n" in prompt
    today = inner_of(renderer).apply_chat_template([{"role": "user", "content": "q"}], tokenize=False)
    assert f"Today Date: {datetime.date.today():%d %b %Y}" in today


SPOILT = {
    "drops or changes the question$": "{% for m in messages %}<|im_start|>{% endfor %}",
    "writes the question 2 times": "{% for m in messages %}{{ m.content }} {{ m.content }}{% endfor %}",
    "depends on the question's words": "{% for m in messages %}{{ m.content | replace('/no_think', '') }}{% endfor %}",
    "more to whitespace": "{% for m in messages %}{{ m.content | replace('\\n', ' ') }}{% endfor %}",
    "“No filter named 'tool_format'": "{{ messages[0].content | tool_format }}",
    "“'render_tools' is undefined”": "{{ render_tools(messages) }}",
    "“unexpected '}'.*\\(line 1\\)”": "{{ messages[0]} }",
    "no generation prompt.*'<|im_start|>assistant": CHATML.partition("{% if add_generation_prompt %}")[0],
    "3 seconds of processor time": "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "raises “MemoryError”": "{{ 'a' * (8 * 1000 ** 3) }}{{ messages[0].content }}",
    "more than 1,000,000 characters": "{% for a in range(99999) %}aaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}",
    "unsafe": "{{ messages.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}",
}


@pytest.mark.parametrize("said", SPOILT)
def test_a_template_that_cannot_serve_is_refused_in_one_line(tmp_path: Path, said: str) -> None:
    given = write(tmp_path, dataclasses.replace(FAMILIES["chatml"], template=SPOILT[said]))
    with pytest.raises(UserError, match=said) as refused:
        tokenizer.build(given)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"the chat template of {tmp_path} ")


def test_what_a_template_raises_is_said(tmp_path: Path) -> None:
    given = dataclasses.replace(write(tmp_path, FAMILIES["mistral"]), system="Be good.")
    with pytest.raises(UserError, match=r"raises “Roles must alternate, user first\.”$"):
        tokenizer.build(given)


def test_a_template_cannot_write_files(tmp_path: Path) -> None:
    """Whatever a sandbox lets through, the kernel refuses to write."""
    target = tmp_path / "written"
    code = (
        f"import io, json, sys; sys.stdin = io.StringIO(json.dumps(dict(template='', variables={{}}, requests=[])));"
        f"import runpy; runpy.run_path({template.__file__!r}, run_name='__main__');"
        f"open({str(target)!r}, 'w').write('x' * 10**5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert target.stat().st_size == 0


FEATURES = [
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ m.content }}{{ ns.n }}{% endfor %}",
    "{% for m in messages %}{% if loop.first %}{{ m | tojson }}{% break %}{% endif %}{% endfor %}",
    "{% generation %}{{ messages[0]['content'] }}{% endgeneration %}{{ tools is none }}{{ documents is none }}",
    "{% macro say(m) %}{{ m.content | tojson(indent=2) }}{% endmacro %}\n  {% if true %}\n{{ say(messages[0]) }}\n {% endif %}\n",
    "{{ bos_token }}{{ messages | map(attribute='content') | join }}{{ dict(a=1).items() | list }}{{ add_generation_prompt }}",
]


@pytest.mark.parametrize("text", FEATURES)
def test_a_template_sees_what_transformers_shows_it(text: str) -> None:
    messages = [{"role": "user", "content": "<a> 'b' \"c\" é\n"}]
    variables = {"bos_token": "<s>"}
    rendered, _ = chat_template_utils.render_jinja_template(
        conversations=[messages], chat_template=text, add_generation_prompt=True, enable_thinking=True, **variables
    )
    request = {"messages": messages, "add_generation_prompt": True, "enable_thinking": True}
    assert template.answer(text, variables, [request]) == [{"text": rendered[0]}]


def test_two_bos_tokens_are_refused(tmp_path: Path) -> None:
    family = dataclasses.replace(FAMILIES["gemma3"], template="<bos>" + (FAMILIES["gemma3"].template or ""))
    with pytest.raises(UserError, match="would have 2 '<bos>' tokens"):
        tokenizer.build(write(tmp_path, family))


def test_tags_of_other_thinkers_are_known() -> None:
    for tag in ("<think>", "<thinking>", "<seed:think>", "<|begin_of_thought|>", "<reasoning>", "[THINK]"):
        turn = chat.Turn("", f"assistant\n{tag}\n", False, False)
        assert turn.opens
        assert turn.rest(f"{tag}\nso") == "so"
        assert turn.rest("so") == "so"
    for tag in ("</think>", "<|end_of_thought|>", "</reasoning>", "[/THINK]", "</seed:think>"):
        assert chat.CLOSING.fullmatch(tag)
    assert not chat.Turn("", "<think>\nfirst words", False, False).begun
