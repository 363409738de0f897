"""Chat templates: prompts are transformers' own, responses are raw, and a hostile template or text can spoil neither."""

import dataclasses
import datetime
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chat_families import CHATML, FAMILIES, write
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from w2sr_jax.core import thinking, turns
from w2sr_jax.core.errors import UserError
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
@given(words=st.lists(st.one_of(WEIRD, st.sampled_from(["<|user|>", "<s>", "<think>", "</think>", "[/INST]", "<bos>", "🙂"]))))
def test_any_text_survives_and_never_ends_its_turn(opened: dict[str, Renderer], name: str, words: list[str]) -> None:
    renderer = opened[name]
    others = [each for each in (*FAMILIES[name].specials, *FAMILIES[name].added, "") if each not in renderer.tokenizer.end_texts]
    texts = ["x" + "".join([*words, control, *words]) + "x" for control in others]
    texts = [text for text in texts if not renderer.refusal(text)]  # an end may come together out of two words
    for text, rendered in zip(texts, renderer.encode_all([("q", text, "reason") for text in texts]), strict=True):
        response = [token for token, wanted in zip(rendered.tokens, rendered.supervised) if wanted]
        ends = [token for token in response if token in renderer.end_tokens]
        assert (ends, response[-1]) == ([renderer.tokenizer.end_of_turn], renderer.tokenizer.end_of_turn)
        assert "".join(renderer.decode(response).split()) == "".join(text.split())
        if FAMILIES[name].words == "bytes":
            assert renderer.decode(response) == text


@pytest.mark.parametrize("name", FAMILIES)
def test_an_end_of_turn_at_the_end_of_a_response_is_taken_off_and_one_within_is_refused(
    opened: dict[str, Renderer], name: str
) -> None:
    renderer, spelled = opened[name], "so</think> 19" if name == "r1" else "so 19"
    whole, ends = renderer.encode("q", spelled), renderer.tokenizer.end_texts
    assert {FAMILIES[name].end, FAMILIES[name].pad} <= set(ends)
    for end in (*ends, "<|im_end|>", "<|eot_id|>", "</s>"):
        for text in (f"{spelled}{end}", f"{spelled} {end}\n", f"{spelled}\n{end}{ends[0]}\n{end} \n"):
            assert renderer.encode("q", text) == whole
            assert renderer.remarks(text, "reason") == [f"ends with {end!r} spelt out, which is taken off"]
            assert renderer.unclosed([(text, "reason")]) == 0
    for end in (*ends, "<|im_end|>", "<|eot_id|>"):
        for text in (f"so {end} \\boxed{{19}}", f"{end}so", f"so{end}\n<|user|>\nHow many?{end}", f"so 19{end}."):
            with pytest.raises(UserError, match=r"example 7: the response spells out '.*', an end of turn, in its midst"):
                list(renderer.encode_all([("q", text, "reason")], ["example 7"]))
            assert renderer.refusal(text)
    for text in ("so 19", "so 19 <|user|>", "the end>", "<s>so 19", "so im_end 19", ""):
        assert not renderer.refusal(text)
    with pytest.raises(UserError, match=r"example 7: the response is nothing but '.*', an end of turn, spelt out"):
        list(renderer.encode_all([("q", f"{ends[0]}\n", "reason")], ["example 7"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(["", "\n", " ", "\n\n"]), body=WEIRD, closes=st.booleans())
@pytest.mark.parametrize("name", ["qwen3", "r1", "llama3", "gemma3"])
def test_what_was_sampled_is_trained_on_token_for_token(
    opened: dict[str, Renderer], name: str, start: str, body: str, closes: bool
) -> None:
    renderer = opened[name]
    spelled = f"{start}so {body}" + ("\n</think>\n\n3" if closes else "")
    assume(not renderer.refusal(spelled) and turns.trimmed(spelled, renderer.tokenizer.end_texts) == (spelled, ""))
    sampled = renderer.tokenizer.encode([spelled])[0]
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


@pytest.mark.parametrize("message", SPOILT)
def test_a_template_that_cannot_serve_is_refused_in_one_line(tmp_path: Path, message: str) -> None:
    template = write(tmp_path, dataclasses.replace(FAMILIES["chatml"], template=SPOILT[message]))
    with pytest.raises(UserError, match=message) as refused:
        tokenizer.build(template)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"the chat template of {tmp_path} ")


def test_what_a_template_raises_is_said(tmp_path: Path) -> None:
    template = dataclasses.replace(write(tmp_path, FAMILIES["mistral"]), system="Be good.")
    with pytest.raises(UserError, match=r"raises “Roles must alternate, user first\.”$"):
        tokenizer.build(template)


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


# What a prompt may begin a response with, a response, and whether its thoughts are in order behind that.
BEGUN = {"nothing": "", "opened": "{o}\n", "closed": "{o}\n\n{c}\n\n", "closed at once": "{o}{c}"}
THOUGHTS: dict[tuple[str, str], str] = {
    ("nothing", "So 19"): "",
    ("nothing", "{o}\nx\n{c}\n\nSo 19"): "",
    ("nothing", "{o}x{c}So 19{o}y{c}19"): "",
    ("nothing", "{o}\nx and so on"): "opens a thinking that it never closes",
    ("nothing", "{o}x{c}So{o}y"): "opens a thinking that it never closes",
    ("opened", "x\n{c}\n\nSo 19"): "",
    ("opened", "{o}\nx\n{c}\n\nSo 19"): "",
    ("opened", "x{c}So {o}y{c}19"): "",
    ("opened", "So 19"): "never closes the thinking that the prompt opens",
    ("opened", "{o}\nx and so on"): "never closes the thinking that the prompt opens",
    ("opened", "x{c}So {o}y"): "opens a thinking that it never closes",
    ("closed", "So 19"): "",
    ("closed", "{o}\n\n{c}\n\nSo 19"): "",
    ("closed", "{o}\nx\n{c}\n\nSo 19"): "thinks although the prompt has closed its thinking",
    ("closed", "{o}\nx and so on"): "thinks although the prompt has closed its thinking",
    ("closed at once", "{o}\nx\n{c}\n\nSo 19"): "thinks although the prompt has closed its thinking",
    ("closed at once", "So 19"): "",
}
STRAY: dict[tuple[str, str], str] = {
    ("nothing", "x\n{c}\n\nSo 19"): "closes a thinking that nothing opened",
    ("nothing", "{o}x{c}So 19{c}"): "closes a thinking that nothing opened",
    ("opened", "x{c}So{c} 19"): "closes a thinking that nothing opened",
    ("closed", "x\n{c}\n\nSo 19"): "closes a thinking that nothing opened",
}


class Beginning(NamedTuple):
    """A tokenizer whose prompts end with what `turn` ends with; nothing else of one is needed here."""

    turn: chat.Turn
    end_texts: tuple[str, ...] = ("<|im_end|>",)

    def response_prefix(self, style: str) -> str:
        return self.turn.response_prefix

    def without_prefix(self, response: str, style: str) -> str:
        return self.turn.without_prefix(response)


@pytest.mark.parametrize("pair", thinking.PAIRS, ids=lambda pair: pair[0])
def test_every_pair_of_marks_is_known_open_or_closed_in_prompts_and_responses(pair: tuple[str, str]) -> None:
    opening, closing = pair
    for (begun, text), remark in (THOUGHTS | STRAY).items():
        written, response = (one.format(o=opening, c=closing) for one in (BEGUN[begun], text))
        turn = chat.Turn("", f"<|im_start|>assistant\n{written}", False, False)
        assert turn.response_prefix == written
        assert chat.opens(turn.response_prefix) == (begun == "opened")
        renderer = Renderer(Beginning(turn))  # type: ignore[arg-type]
        assert renderer.remarks(response, "reason") == ([remark] if remark else []), (begun, response)
        assert renderer.unclosed([(response, "reason"), ("So 19", "plain")]) == bool(remark)
        rest = turn.without_prefix(response)
        assert rest in response
        assert (written + rest).casefold().count(opening.casefold()) <= response.casefold().count(opening.casefold()) + (
            begun != "nothing" and not response.startswith(opening)
        ) + ("although" in remark)


def test_other_marks_than_the_prompt_s_do_not_close_its_thinking() -> None:
    turn = chat.Turn("", "assistant\n<think>\n", False, False)
    renderer = Renderer(Beginning(turn))  # type: ignore[arg-type]
    assert renderer.unclosed([("x</thinking>So", "reason"), ("[THINK]x[/THINK]So", "reason"), ("x</Think>So", "reason")]) == 2
    assert turn.without_prefix("<Think>\nx</Think>So") == "x</Think>So"


def test_a_prompt_may_close_a_thinking_that_it_never_opened() -> None:
    turn = chat.Turn("", "<｜Assistant｜></think>", False, False)  # as DeepSeek-V3.1 writes it
    assert (
        turn.response_prefix,
        chat.opens(turn.response_prefix),
        turn.without_prefix("</think>So"),
        turn.without_prefix("So"),
    ) == ("</think>", False, "So", "So")
    renderer = Renderer(Beginning(turn))  # type: ignore[arg-type]
    assert renderer.unclosed([("So", "reason"), ("<think>x</think>So", "reason"), ("x</think>So", "reason")]) == 2
    for words in ("assistant\n<think>\nfirst words", "assistant\n</think> then", "<think>assistant</think>: "):
        assert not chat.Turn("", words, False, False).response_prefix


THINKERS = ("<think>", "[THINK]", "<|channel>thought", "<|inner_prefix|>")


@pytest.mark.parametrize("opening", THINKERS)
def test_marks_that_are_tokens_stay_tokens_in_responses(tmp_path: Path, opening: str) -> None:
    closing = thinking.closing(opening)
    tokens = (opening.removesuffix("thought"), closing)
    family = dataclasses.replace(FAMILIES["chatml"], specials=(*FAMILIES["chatml"].specials, *tokens))
    renderer = Renderer(tokenizer.build(write(tmp_path, family)))
    rendered = renderer.encode("q", f"{opening}\nx\n{closing}\nSo 19<|im_start|>x")
    ids = [inner_of(renderer).convert_tokens_to_ids(token) for token in tokens]
    own = rendered.tokens[len(renderer.prompt("q")) :]
    assert [token for token in own if token in ids] == ids
    assert inner_of(renderer).convert_tokens_to_ids("<|im_start|>") not in own


HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def _spoken(words: str) -> str:
    """ChatML with words in front of what an assistant says."""
    return CHATML.replace("{{ m.role }}\n{{", f"{{{{ m.role }}}}\n{{% if m.role == 'assistant' %}}{words}{{% endif %}}{{{{")


BEGINNINGS = [
    ("<|channel|>final<|message|>", HARMONY),
    (
        "<|channel|>final<|message|>",
        HARMONY.replace("assistant{% endif %}", "assistant<|channel|>analysis<|message|>{% endif %}"),
    ),
    ("final<|message|>", HARMONY.replace("assistant{% endif %}", "assistant<|channel|>commentary<|message|>{% endif %}")),
    ("<|START_RESPONSE|>", _spoken("<|START_RESPONSE|>")),
    ("Answer:", _spoken("<think></think>\nAnswer: ")),
]


@pytest.mark.parametrize(("words", "text"), BEGINNINGS)
def test_a_template_that_begins_the_answer_with_words_of_its_own_is_refused(tmp_path: Path, words: str, text: str) -> None:
    template = write(tmp_path, dataclasses.replace(FAMILIES["chatml"], template=text))
    with pytest.raises(UserError, match=f"begins an assistant's turn with '{re.escape(words)}' behind its generation prompt"):
        tokenizer.build(template)


HARMLESS = {
    "an empty thinking": _spoken("<think>\n\n</think>\n\n"),
    "a closed one": _spoken("</think>"),
    "a space": CHATML.replace("{{ m.role }}\n{{", "{{ m.role }}\n {{"),
    "fewer lines": CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n\n{% endif %}"),
    "the same words": _spoken("Answer: ").replace("assistant\n{% endif %}", "assistant\nAnswer: {% endif %}"),
    "an opened thinking": CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"),
    "no assistant at all": "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_other_templates_are_taken(tmp_path: Path, name: str) -> None:
    renderer = Renderer(tokenizer.build(write(tmp_path, dataclasses.replace(FAMILIES["chatml"], template=HARMLESS[name]))))
    assert renderer.encode("q", "19").tokens[-1] == renderer.tokenizer.end_of_turn


def test_a_template_that_ends_an_answer_with_words_of_its_own_is_refused(tmp_path: Path) -> None:
    for words in ("<|END_RESPONSE|>", " Done."):
        text = CHATML.replace(
            "{{ m.content }}<|im_end|>", "{{ m.content }}{% if m.role == 'assistant' %}" + words + "{% endif %}<|im_end|>"
        )
        template = write(tmp_path, dataclasses.replace(FAMILIES["chatml"], template=text))
        with pytest.raises(UserError, match=f"writes '{re.escape(words.strip())}' behind an assistant's words"):
            tokenizer.build(template)
