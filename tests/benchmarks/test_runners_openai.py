"""The runner behind a server, against a real local one: what is sent, kept and refused."""

import base64
import dataclasses
import io
import json
import threading
import time

import pytest
from stand_ins.chat_server import chat_server

from regap_benchmarks import cli
from regap_benchmarks.chat_completions import ChatCompletions
from regap_benchmarks.decoding import Decoding
from regap_benchmarks.quantization import Int8
from regap_benchmarks.records import Response, from_line, read_run, to_line
from regap_benchmarks.runners.openai import OPENAI, OpenAIRunner, ServerError, data_url, seed_of
from regap_benchmarks.runners.runner import ModelOptions, Request

LISTED = [{"id": "tiny-lvlm", "root": "/models/tiny", "max_model_len": 4096, "created": 1}]
GREEDY = Decoding(max_new_tokens=7)


def _answer(text, finish="stop", model="tiny-lvlm", fingerprint="fp_1", **usage):
    return {
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, **usage},
    }


def _echo(number, body):
    """What it is asked, so that answers cannot be mixed up."""
    content = body["messages"][-1]["content"]
    return _answer(f" {content if isinstance(content, str) else content[-1]['text']}\n")


def _options(url, **options):
    return ModelOptions(**{"path": "tiny-lvlm", "server": url, **options})


def _quick(url, **settings):
    return ChatCompletions(url, "secret", sleep=lambda seconds: None, **settings)


@pytest.fixture
def picture():
    image = pytest.importorskip("PIL.Image")
    made = image.new("RGB", (4, 3), (10, 200, 30))
    made.putpixel((2, 1), (255, 0, 1))
    return made


def test_what_is_sent(picture, monkeypatch):
    monkeypatch.setenv("REGAP_SERVER_KEY", "secret")
    warm = Decoding(max_new_tokens=7, temperature=0.5, top_p=0.9, seed=3)
    with chat_server(_echo, models=LISTED) as (url, asked):
        runner = OpenAIRunner(_options(url))
        answers = runner.generate(
            [Request("t/1", "What is it?", (picture, picture), system="Be brief.")], warm
        )
    assert asked[0][1]["max_tokens"] == 1  # who answers, before anything is generated
    headers, body = asked[1]
    assert headers["Authorization"] == "Bearer secret"
    system, user = body.pop("messages")
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert user["content"][2]["text"] == "What is it?"
    from PIL import Image

    kind, _, content = user["content"][0]["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert shown.tobytes() == picture.tobytes()
    assert body == {
        "model": "tiny-lvlm",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": seed_of(3, "t/1"),
    }
    (answer,) = answers
    assert (answer.text, answer.finish) == ("What is it?", "stop")
    assert (answer.prompt_tokens, answer.new_tokens) == (11, 3)
    assert answer.served_by == "tiny-lvlm (fp_1)"
    assert "secret" not in json.dumps([runner.describe(), runner.environment()])


def test_a_text_alone_is_a_text_and_vllms_own_settings_are_sent_where_asked_for():
    own = dataclasses.replace(GREEDY, top_k=5, repetition_penalty=1.1)
    with chat_server(_echo, models=LISTED) as (url, asked):
        OpenAIRunner(_options(url)).generate([Request("r", "What?")], own)
    body = asked[1][1]
    assert body["messages"] == [{"role": "user", "content": "What?"}]
    assert (body["top_k"], body["repetition_penalty"]) == (5, 1.1)


def test_seeds_are_of_run_and_request():
    seeds = {seed_of(seed, name) for seed in range(20) for name in ("a/1", "a/2", "b/1")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_batch_is_asked_at_once_and_answered_in_order():
    lock, now, most = threading.Lock(), [0], [0]

    def slow(number, body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.1)
        with lock:
            now[0] -= 1
        return _echo(number, body)

    requests = [Request(f"r{number}", f"word {number}") for number in range(6)]
    with chat_server(slow, models=LISTED) as (url, _):
        answers = OpenAIRunner(_options(url)).generate(requests, GREEDY)
    assert [each.text for each in answers] == [each.prompt for each in requests]
    assert most[0] > 1


def test_a_busy_server_is_asked_again():
    replies = [_answer("x"), (429, "slow", {"Retry-After": "3"}), (500, "broken"), _answer("yes")]
    waits = []
    # Without a list of models: a server need not have one.
    with chat_server(lambda number, body: replies[number]) as (url, _):
        runner = OpenAIRunner(_options(url), ChatCompletions(url, sleep=waits.append))
        (answer,) = runner.generate([Request("r", "?")], GREEDY)
    assert answer.text == "yes"
    assert waits == [3.0, 2.0]
    assert runner.describe()["served_root"] is None


@pytest.mark.parametrize(("finish", "expected"), [("stop", "stop"), ("length", "length")])
def test_how_it_ended(finish, expected):
    with chat_server(lambda number, body: _answer("a", finish), models=LISTED) as (url, _):
        (answer,) = OpenAIRunner(_options(url)).generate([Request("r", "?")], GREEDY)
    assert answer.finish == expected


def test_an_answer_that_was_filtered_is_no_answer():
    reply = lambda number, body: _answer(None, "content_filter" if number else "stop")  # noqa: E731
    with chat_server(reply, models=LISTED) as (url, _):
        runner = OpenAIRunner(_options(url))
        with pytest.raises(ValueError, match=r"'r': expected an answer .* 'content_filter'"):
            runner.generate([Request("r", "?")], GREEDY)


def test_a_model_that_is_not_served_is_told_before_anything_is_asked():
    told = pytest.raises(ValueError, match=r"--model openai:other: expected a model .* found tiny")
    with chat_server(_echo, models=LISTED) as (url, asked), told:
        OpenAIRunner(_options(url, path="other"))
    assert not asked


def test_another_model_in_between_ends_the_run():
    reply = lambda number, body: _answer("a", model="tiny-lvlm" if number < 2 else "else")  # noqa: E731
    with chat_server(reply, models=LISTED) as (url, _):
        runner = OpenAIRunner(_options(url))
        runner.generate([Request("r", "?")], GREEDY)
        with pytest.raises(ServerError, match=r"expected answers of 'tiny-lvlm', .* of 'else'"):
            runner.generate([Request("r2", "?")], GREEDY)


def test_a_key_that_is_refused_is_told_without_the_key():
    refuses = chat_server(lambda number, body: (401, "no"), models=LISTED)
    with refuses as (url, _), pytest.raises(ServerError, match="HTTP 401") as raised:
        OpenAIRunner(_options(url), _quick(url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server": None}, "expected --server with the base of an API"),
        ({"server": "ftp://x"}, "--server: expected the base of a server's API"),
        ({"base": "b"}, "--model-base: expected none with openai"),
        ({"conversation": "v1"}, "--conversation: expected none with openai"),
        ({"image_aspect": "pad"}, "--image-aspect: expected none with openai"),
        ({"quantization": Int8()}, "--quantization: expected none with openai"),
        ({"per_minute": 0.0}, "--requests-per-minute: expected above 0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OPENAI.check(_options("http://localhost:1", **options))


# ---- a whole run


def _command(url, folder, *words):
    model = ["--model", "openai:tiny-lvlm", "--server", url, "--batch-size", "3"]
    tasks = ["--tasks", "stand_in_requests", "--limit", "5", "--max-new-tokens", "7"]
    return cli.main(["generate", *model, *tasks, "--output", str(folder), *words])


def test_a_run_records_who_answered(tmp_path):
    changed = lambda number, body: {  # noqa: E731
        **_echo(number, body),
        "system_fingerprint": "fp_1" if number < 3 else "fp_2",
    }
    with chat_server(changed, models=LISTED) as (url, _):
        assert _command(url, tmp_path) == 0
    header, responses = read_run(tmp_path / "responses.jsonl", Response)
    assert header.settings["model"] == {
        "runner": "openai",
        "checkpoint": "tiny-lvlm",
        "served_model": "tiny-lvlm",
        "served_root": "/models/tiny",
        "context": 4096,
    }
    assert header.settings["dtype"] is None
    assert header.environment["server"] == url
    assert {each.served_by for each in responses} == {"tiny-lvlm (fp_1)", "tiny-lvlm (fp_2)"}
    assert all(each.text == each.sample.prompt for each in responses)
    assert {(each.prompt_tokens, each.new_tokens) for each in responses} == {(11, 3)}
    assert from_line(Response, to_line(responses[0])) == responses[0]


def test_a_refused_request_is_a_gap_and_nothing_is_asked_twice(tmp_path):
    refused = []

    def reply(number, body):
        said = body["messages"][-1]["content"]
        if number and not refused:
            refused.append(said)
        return (400, "too long") if said in refused else _echo(number, body)

    with chat_server(reply, models=LISTED) as (url, asked):
        assert _command(url, tmp_path) == 3
    _, responses = read_run(tmp_path / "responses.jsonl", Response)
    failed = [each for each in responses if each.finish == "error"]
    assert [each.sample.prompt for each in failed] == refused
    assert "HTTP 400: " in failed[0].error
    prompts = [body["messages"][-1]["content"] for _, body in asked[1:]]
    # The refused one is tried by itself once more; the others of its batch are not.
    assert len(prompts) == len(responses) + 1
    assert sorted(set(prompts)) == sorted(each.sample.prompt for each in responses)


def test_a_run_goes_on_where_the_server_failed(tmp_path, capsys):
    with chat_server(
        lambda number, body: _echo(number, body) if number < 4 else (401, "key expired"),
        models=LISTED,
    ) as (url, _):
        assert _command(url, tmp_path) == 1
    assert "what is answered is kept" in capsys.readouterr().err
    kept = len(read_run(tmp_path / "responses.jsonl", Response)[1])
    assert kept == 3
    with chat_server(_echo, models=LISTED) as (url, asked):
        assert _command(url, tmp_path) == 0
    responses = read_run(tmp_path / "responses.jsonl", Response)[1]
    assert len(asked) == 1 + len(responses) - kept


def test_the_url_of_a_picture_is_without_loss(picture):
    assert data_url(picture).startswith("data:image/png;base64,iVBOR")
