"""Embeddings, rerank, score and tokenize of the simulated server."""

import base64
import math
import struct

import pytest


async def test_embeddings_are_unit_vectors_that_depend_on_the_text_alone(site):
    one, other = await site(), await site()
    body = {"model": "sim", "input": ["Bonjour", "Bonsoir", "Bonjour"]}
    first = (await one.post(body, "/v1/embeddings")).json()
    vectors = [item["embedding"] for item in first["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert all(math.isclose(sum(value * value for value in vector), 1) for vector in vectors)
    assert [item["index"] for item in first["data"]] == [0, 1, 2]
    assert first["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert (await other.post(body, "/v1/embeddings")).json()["data"] == first["data"]


async def test_base64_holds_the_same_numbers(site):
    one = await site()
    body = {"model": "sim", "input": "Bonjour", "dimensions": 8}
    plain = (await one.post(body, "/v1/embeddings")).json()["data"][0]["embedding"]
    packed = (await one.post({**body, "encoding_format": "base64"}, "/v1/embeddings")).json()["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2, 3], [4]]])
async def test_embeddings_take_tokens(site, given):
    one = await site()
    answer = (await one.post({"model": "sim", "input": given}, "/v1/embeddings")).json()
    assert answer["usage"]["total_tokens"] == (3 if isinstance(given[0], int) else 4)


@pytest.mark.parametrize("change", [{"input": []}, {"input": None}, {"input": "x" * 40_000}, {"encoding_format": "x"}])
async def test_a_wrong_embedding_request_is_refused(site, change):
    one = await site()
    answer = await one.post({"model": "sim", "input": "x"} | change, "/v1/embeddings")
    assert answer.status_code == 400
    assert (await one.state())["requests"][0]["result"] == "refused"


async def test_rerank_puts_the_likest_document_first(site):
    one = await site()
    body = {"model": "sim", "query": "le calcul intensif", "documents": ["la mer", "le calcul", "le calcul intensif"]}
    answer = (await one.post(body, "/v1/rerank")).json()
    assert [result["index"] for result in answer["results"]] == [2, 1, 0]
    assert answer["results"][0]["document"]["text"] == "le calcul intensif"
    top = (await one.post({**body, "top_n": 1}, "/v1/rerank")).json()
    assert len(top["results"]) == 1
    assert answer["usage"]["total_tokens"] > 0


async def test_score_compares_one_with_many_or_pairs(site):
    one = await site()
    many = (await one.post({"model": "sim", "text_1": "a b", "text_2": ["a b", "c"]}, "/v1/score")).json()["data"]
    assert many[0]["score"] > many[1]["score"]
    pairs = (await one.post({"model": "sim", "text_1": ["a", "c"], "text_2": ["a", "c"]}, "/v1/score")).json()["data"]
    assert [pair["index"] for pair in pairs] == [0, 1]
    wrong = await one.post({"model": "sim", "text_1": ["a", "b"], "text_2": ["c"]}, "/v1/score")
    assert wrong.status_code == 400


async def test_tokenize_counts_as_the_usage_does(site):
    one = await site()
    messages = [{"role": "user", "content": "Bonjour à tous"}]
    counted = (await one.post({"model": "sim", "messages": messages}, "/tokenize")).json()
    used = (await one.post({"model": "sim", "messages": messages, "max_tokens": 1})).json()["usage"]["prompt_tokens"]
    assert counted["count"] == used == len(counted["tokens"])
    assert counted["max_model_len"] == 4_096


async def test_reading_requests_fail_too(site):
    one = await site(failures="close_after=0")
    body = {"model": "sim", "input": "Bonjour"}
    with pytest.raises(Exception, match="without sending complete message body"):
        await one.post(body, "/v1/embeddings")
