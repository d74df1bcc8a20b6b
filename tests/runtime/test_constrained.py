"""Answers of a given form: valid whatever the model would rather say, in both runtimes."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import default_model
from facellava.errors import MissingExtra, UsageError
from facellava.model import experts
from facellava.runtime import onnx_engine as engine_module
from facellava.runtime.build import ensure_built
from facellava.runtime.constrained import CLOSING_TOKENS, Constraint, Vocabulary, _place
from facellava.runtime.decoder import Sampler
from facellava.runtime.engine import Engine, Seen
from facellava.runtime.onnx_engine import OnnxEngine

pytest.importorskip("llguidance", reason="needs the structured extra")

EXPRESSIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
FACE = {
    "type": "object",
    "properties": {
        "expression": {"enum": EXPRESSIONS},
        "smiling": {"type": "boolean"},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["expression", "smiling", "age"],
}
SHORT = {"type": "string", "maxLength": 6}
SCHEMAS: dict[str, dict[str, Any]] = {
    "face": FACE,
    "number": {"type": "number", "minimum": -1, "maximum": 1},
    "text": SHORT,
    "list": {"type": "array", "items": {"enum": ["AU1", "AU12", "AU25"]}, "minItems": 1, "maxItems": 3},
    "nested": {
        "type": "object",
        "properties": {"face": FACE, "notes": {"type": "array", "items": SHORT, "maxItems": 2}, "id": {"const": "a b"}},
        "required": ["face", "notes", "id"],
    },
    "either": {"anyOf": [{"type": "null"}, {"type": "integer"}, {"type": "array", "items": {"type": "boolean"}}]},
    "shared": {
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/eye"}, "right": {"$ref": "#/$defs/eye"}},
        "required": ["left", "right"],
        "$defs": {"eye": {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}},
    },
    "unbounded": {
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "scores": {"type": "array", "items": {"type": "number"}},
            "more": {"type": "string"},
        },
        "required": ["description"],
    },
    "anything": {},
}


def onnx_engine(folder: Path, source: Path, gguf: Path) -> Engine:
    """The tiny model of these tests behind the default's engine; nothing is asked of the frozen experts."""
    built = ensure_built(source, folder, lambda _name: gguf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "ExpertEncoder", lambda *_given, **_options: None)
        return OnnxEngine(built, Path)


def torch_engine(folder: Path) -> Engine:
    """A trained folder with random weights."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from model_helpers import TINY_VISION, byte_tokenizer, tiny_config

    from facellava.model.modeling import FaceLlavaForConditionalGeneration
    from facellava.model.processing import FaceLlavaProcessor
    from facellava.runtime.torch_engine import TorchEngine

    torch.manual_seed(0)
    config = tiny_config(vision=dataclasses.replace(TINY_VISION, temporal=False))
    FaceLlavaForConditionalGeneration(config).save_pretrained(folder)
    FaceLlavaProcessor(byte_tokenizer(), config).save_pretrained(folder)
    return TorchEngine(folder, Path)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_source: Path, tiny_gguf: Path
) -> tuple[Engine, Seen]:
    """Both runtimes, each having looked at something."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "torch":
        from synthetic_clip import make_clip

        engine = torch_engine(folder / "final")
        return engine, engine.look(make_clip())
    engine = onnx_engine(folder, tiny_source, tiny_gguf)
    assert isinstance(engine, OnnxEngine)
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(1, experts.N_PATCHES, experts.MAP_WIDTH)).astype(np.float32)
    values = rng.normal(size=(1, experts.N_VALUES)).astype(np.float32)
    return engine, engine.read(engine.fuse(maps, values, rng.uniform(size=(1, 68, 2)).astype(np.float32)))


def answer(asked: tuple[Engine, Seen], constraint: Constraint, **options: Any) -> str:
    engine, seen = asked
    return "".join(engine.ask(seen, "Which?", constraint=constraint, **options))


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("limit", [1, 40, 160])
def test_random_weights_give_valid_json(asked: tuple[Engine, Seen], name: str, limit: int) -> None:
    schema = SCHEMAS[name]
    for sampler in (Sampler(), Sampler(1.0, seed=1)):
        text = answer(asked, Constraint.json(schema), max_new_tokens=limit, sampler=sampler)
        Draft202012Validator(schema).validate(json.loads(text))
        assert "\n" not in text


floats = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
values = st.one_of(st.text(max_size=5), st.integers(-(2**53), 2**53), floats, st.booleans(), st.none())
leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": "number"}),
    st.integers(0, 30).map(lambda n: {"type": "string", "maxLength": n}),
    st.tuples(st.integers(-50, 50), st.integers(0, 200)).map(
        lambda n: {"type": "integer", "minimum": n[0], "maximum": n[0] + n[1]}
    ),
    st.tuples(st.floats(-5, 5), st.floats(0, 5)).map(
        lambda n: {"type": "number", "minimum": round(n[0], 3), "maximum": round(n[0] + n[1], 3)}
    ),
    st.lists(values, min_size=1, max_size=3).map(lambda several: {"enum": several}),
)


def compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["a", "AU12", "face shape", "properties", 'quo"ted'])
    objects = st.dictionaries(names, inner, max_size=3).flatmap(
        lambda named: (
            st.lists(st.sampled_from(sorted(named)), unique=True).map(
                lambda required: {"type": "object", "properties": named, "required": required}
            )
            if named
            else st.just({"type": "object", "properties": {}})
        )
    )
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda n: {"type": "array", "items": n[0], "minItems": n[1], "maxItems": n[1] + n[2]}
    )
    return st.one_of(objects, arrays, st.lists(inner, min_size=1, max_size=2).map(lambda several: {"anyOf": several}))


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    """One token a byte: what can be written is then only a question of the schema."""
    pytest.importorskip("torch", reason="needs the torch extra")
    from model_helpers import byte_tokenizer

    tokenizer = byte_tokenizer()
    return Vocabulary(tokenizer.backend_tokenizer.to_str(), [tokenizer.convert_tokens_to_ids("<|im_end|>")])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=st.recursive(leaves, compound, max_leaves=5), seed=st.integers(0, 1000), limit=st.integers(0, 60))
def test_any_schema_is_met_by_any_logits(words: Vocabulary, schema: dict[str, Any], seed: int, limit: int) -> None:
    """As the decoder goes about it, without a language model: every choice is drawn."""
    guide, rng, ids = Constraint.json(schema).guide(words), np.random.default_rng(seed), []
    while not guide.ended:
        assert len(ids) < 3000
        new = guide.forced()
        if not new:
            logits = rng.normal(0, 5, 300).astype(np.float32)  # more than there are tokens, as of padded vocabularies
            new = [int(guide.mask(logits, closing=len(ids) >= limit).argmax())]
            if new[0] in guide.stop:
                break
        guide.advance(new)
        ids += new
    assert guide.whole
    Draft202012Validator(schema).validate(json.loads(words.tokens.decode_bytes(ids)))


def test_choices_and_expressions(asked: tuple[Engine, Seen]) -> None:
    texts = ["yes", "yes, fully", 'a "quoted" \\ thing', "/x/", "{}"]
    drawn = {answer(asked, Constraint.choices(texts), sampler=Sampler(3.0, seed=s)) for s in range(12)}
    assert drawn <= set(texts)
    assert len(drawn) > 1
    for pattern in (r"AU[0-9]{1,2}(, AU[0-9]{1,2}){0,3}", r"[A-Z][a-z ]{0,20}\.", "a/b", "[ab]+"):
        assert re.fullmatch(pattern, answer(asked, Constraint.regex(pattern), max_new_tokens=20))


def test_spaces_before_marks_stay(asked: tuple[Engine, Seen]) -> None:
    assert answer(asked, Constraint.choices(["it 's , so ."])) == "it 's , so ."


def test_a_nearly_full_context_closes_earlier(asked: tuple[Engine, Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, seen = asked
    used, constraint = engine._asked(seen, "Which?").length, Constraint.json(SCHEMAS["unbounded"])
    monkeypatch.setattr(engine._decoder, "max_length", used + 60)
    assert "description" in json.loads(answer(asked, constraint, max_new_tokens=500))
    monkeypatch.setattr(engine._decoder, "max_length", used + 10)
    with pytest.raises(UsageError, match="incomplete after 10 tokens"):
        answer(asked, constraint)


def test_the_head_comes_first_and_pieces_add_up(asked: tuple[Engine, Seen]) -> None:
    engine, seen = asked
    pieces = list(engine.ask(seen, "Which?", head="So: ", constraint=Constraint.json(FACE), max_new_tokens=5))
    assert pieces[0] == "So: "
    assert len(pieces) > 5
    assert set(json.loads("".join(pieces[1:]))) == {"expression", "smiling", "age"}


def test_the_model_chooses_among_what_is_allowed(asked: tuple[Engine, Seen]) -> None:
    """A choice of single letters is what the first logits say."""
    engine, seen = asked
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    logits = engine._asked(seen, "Which?").logits
    best = max(letters, key=lambda letter: logits[engine.tokenize(letter)[0]])
    assert answer(asked, Constraint.choices(letters)) == best


def test_only_named_properties_are_written_unless_the_schema_says_otherwise(words: Vocabulary) -> None:
    def goes_on(schema: dict[str, Any], text: str = '{"a": 1') -> bool:
        guide = Constraint.json(schema).guide(words)
        guide.advance(words.tokens.tokenize_str(text))
        allowed = np.isfinite(guide.mask(np.zeros(300, np.float32)))
        return bool(allowed[words.tokens.tokenize_str(",")[0]])

    named: dict[str, Any] = {"type": "object", "properties": {"a": {"const": 1}}}
    assert not goes_on(named)
    assert goes_on(named | {"additionalProperties": True})
    assert goes_on(named | {"required": ["b"]})
    assert goes_on({"allOf": [named, {"type": "object", "properties": {"b": {"const": 1}}}]})
    assert not goes_on({"anyOf": [named, {"type": "null"}]})


def test_an_answer_that_cannot_end_says_what_to_do(asked: tuple[Engine, Seen]) -> None:
    with pytest.raises(UsageError, match=r"incomplete after \d+ tokens: raise max_new_tokens, or bound"):
        answer(asked, Constraint.regex("([ab]c){400}"), max_new_tokens=8)
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    with pytest.raises(UsageError, match=r"too complex|incomplete"):
        answer(asked, Constraint.json(endless), max_new_tokens=8)


def test_closing_leaves_room_for_what_is_required(words: Vocabulary) -> None:
    assert len(json.dumps({"expression": "happiness", "smiling": True, "age": 40})) * 2 < CLOSING_TOKENS
    assert [_place(text) for text in (b'{"a', b'"a\\', b'"a\\"', b'"\\\\"', b'{"a": -1.5e', b"[true", b'["1"')] == [
        ("text", 0), ("escape", 0), ("text", 0), ("between", 0), ("number", 5), ("between", 0), ("between", 0)
    ]  # fmt: skip
    guide = Constraint.json({"type": "number"}).guide(words)
    guide.advance(words.tokens.tokenize_str("0.12345678901234567"))
    allowed = np.flatnonzero(np.isfinite(guide.mask(np.zeros(258, np.float32), closing=True)))
    assert set(allowed) == words.stop


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "Invalid type: objekt"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
        ({"not": {"type": "string"}}, "Unimplemented"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"properties": {"a": {}}, "required": 5}, "cannot be used"),
        ({"enum": [{1, 2}]}, "not JSON serializable"),
        ({"enum": [2**53 + 1]}, "more than 15 digits"),
        ({"maximum": 1.3100012304494157}, "more than 15 digits"),
        ({"maximum": float("inf")}, "more than 15 digits"),
        (["a"], "not list"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_told_in_one_line(schema: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Constraint.json(schema)
    assert "\n" not in str(caught.value)


def test_wrong_choices_and_expressions_are_told_in_one_line() -> None:
    for texts in ([], [""], "yes", [1]):
        with pytest.raises(UsageError, match="none of them empty"):
            Constraint.choices(texts)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"^the regular expression cannot be used: unclosed character class$"):
        Constraint.regex("[a")


def test_what_the_tokenizer_cannot_write_is_told(tiny_gguf: Path) -> None:
    from facellava.model.gguf_weights import read_gguf

    letters = Vocabulary(read_gguf(tiny_gguf).tokenizer.to_str(), [tiny.TOKENS.index("<|im_end|>")])
    with pytest.raises(UsageError, match="tokenizer cannot write"):
        Constraint.regex("é+").guide(letters).mask(np.zeros(len(tiny.TOKENS), np.float32))
    with pytest.raises(UsageError, match="tokenizer cannot write"):
        Constraint.choices(["é", "è"]).guide(letters).mask(np.zeros(len(tiny.TOKENS), np.float32))
    guide = Constraint.choices(["yes", "né"]).guide(letters)
    guide.advance([tiny.TOKENS.index("n")])  # letters without a token are found out when they are next
    with pytest.raises(UsageError, match="tokenizer cannot write"):
        guide.mask(np.zeros(len(tiny.TOKENS), np.float32))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtra, match=r"facellava\[structured\]"):
        Constraint.json(FACE)


def test_the_default_fills_in_a_form() -> None:
    analyzer = default_model.analyzer()
    _, (clip, *_) = analyzer.clips(default_model.astronaut())
    seen = analyzer.engine.look(clip)
    schema = {**FACE, "properties": {**FACE["properties"], "age": {"type": "integer"}}}
    constraint = Constraint.json(schema)
    question = "Which expression does the face show, is the person smiling, and how old does the person look?"
    for limit in (160, 4):
        found = json.loads("".join(analyzer.engine.ask(seen, question, constraint=constraint, max_new_tokens=limit)))
        Draft202012Validator(schema).validate(found)
        assert found["expression"] == "happiness"
        assert found["smiling"]
        assert 0 < found["age"] < 100
