"""A served teacher against a real `transformers serve` with a tiny model, compared with transformers' own `generate`."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.preflight.stand_ins import StandIns
from w2sr_jax.teachers.served.ask import ask
from w2sr_jax.teachers.settings import Served

PROBLEMS = [Problem.of(f"Ann has {count} old bags and finds 2 more. How many?", str(count + 2)) for count in range(3)]
START_SECONDS = 120.0


class Running(NamedTuple):
    """A server, the model's directory that it was given, and the same model and tokenizer here."""

    url: str
    directory: Path
    model: Any
    tokenizer: Any


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    for package in ("torch", "accelerate", "fastapi", "uvicorn"):
        pytest.importorskip(package, reason=f"transformers serve needs {package}")
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("served")
    directory = StandIns(folder).tokenizer()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    # A Llama, since for Qwen2 transformers reads any tokenizer as Qwen2's own.
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(12.0)  # so that greedy texts vary
    model.save_pretrained(directory)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from transformers.cli.transformers import main; main()"
    arguments = ["serve", str(directory), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], env={**os.environ, **offline}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield Running(f"http://127.0.0.1:{port}/v1", directory, model, tokenizer)
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"transformers serve did not start:\n{log.read_text(errors='replace')[-3000:]}")


def expected(running: Running, ids: list[int], most: int) -> tuple[str, str, int]:
    """Text, finish and tokens of transformers' own greedy decoding."""
    import torch

    whole = running.model.generate(torch.tensor([ids]), max_new_tokens=most, do_sample=False)[0][len(ids) :]
    return (
        running.tokenizer.decode(whole, skip_special_tokens=True).strip(),
        "length" if len(whole) >= most else "stop",
        len(whole),
    )


def test_greedy_chats_are_what_generate_gives(running: Running, tmp_path: Path) -> None:
    settings = Served("tiny", running.url, str(running.directory), samples=2, temperature=0.0, max_tokens=24, prompt="{question}")
    result = ask(tmp_path, settings, PROBLEMS, NumberGrader(), 0)
    written = records.read(result.paths[0], Trace)
    prompts = [
        running.tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.question}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for problem in PROBLEMS
    ]
    answers = [expected(running, prompt, 24) for prompt in prompts]
    assert [(trace.text, trace.finish, trace.tokens) for trace in written] == [each for each in answers for _ in range(2)]
    assert len({text for text, _, _ in answers}) == 3
    assert result.prompt_tokens == 2 * sum(map(len, prompts))
    assert result.completion_tokens == sum(trace.tokens for trace in written)
    assert result.counts["retries"] == 0


def test_completions_continue_the_prompt(running: Running, tmp_path: Path) -> None:
    settings = Served("tiny", running.url, str(running.directory), "completions", samples=1, temperature=0.0, max_tokens=16)
    settings = dataclasses.replace(settings, prompt="Q: {question} A:")
    written = records.read(ask(tmp_path, settings, PROBLEMS[:2], NumberGrader(), 0).paths[0], Trace)
    ids = [running.tokenizer(f"Q: {problem.question} A:")["input_ids"] for problem in PROBLEMS[:2]]
    assert [(trace.text, trace.finish, trace.tokens) for trace in written] == [expected(running, each, 16) for each in ids]


def test_a_model_that_is_not_served_and_a_path_that_is_not_there(running: Running, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Server is pinned to"):
        ask(tmp_path, Served("tiny", running.url, "another"), PROBLEMS, NumberGrader(), 0)
    with pytest.raises(UserError, match=r"does not know the path or the model.*Not Found"):
        ask(tmp_path, Served("tiny", running.url.removesuffix("/v1"), "another"), PROBLEMS, NumberGrader(), 0)
