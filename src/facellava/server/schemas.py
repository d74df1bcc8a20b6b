"""What requests and responses look like. Every field is checked here; what is not named is refused.

OpenAI's fields that ask for something a face model cannot do are accepted only with the value that asks for nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from facellava.server.problems import Problem

__all__ = [
    "AnalyzeRequest",
    "ChatRequest",
    "ErrorBody",
    "FileDeleted",
    "FileObject",
    "ImagePart",
    "LandmarksRequest",
    "Message",
    "ModelList",
    "ScoreRequest",
    "ScoreResponse",
    "TimelineRequest",
    "VideoPart",
    "WhyRequest",
]

ALIAS = "facellava"
"""A model name that always stands for the one that is loaded."""
ModelName = Annotated[str, Field(max_length=256, description="The loaded model's id, or facellava.")]
Media = Annotated[str, Field(min_length=1, description="data:...;base64,..., a file id, or an allowed https address.")]
Face = Annotated[int, Field(ge=0, le=2**31, description="Number of the face, left to right; the largest by default.")]


class Strict(BaseModel):
    """A request of which every field is known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Address(BaseModel):
    """Where a medium is; ``detail`` changes nothing."""

    url: Media
    detail: str | None = None


def _address(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


Words = Annotated[str, Field(max_length=2**20)]
"""A text; a bound makes pydantic refuse half a surrogate pair, which JSON can hold and no tokenizer reads."""


class TextPart(BaseModel):
    """Words."""

    type: Literal["text"]
    text: Words


class ImagePart(BaseModel):
    """A picture; several in one message are the frames of one video."""

    type: Literal["image_url"]
    image_url: Annotated[Address, BeforeValidator(_address)]


class VideoPart(BaseModel):
    """A video."""

    type: Literal["video_url"]
    video_url: Annotated[Address, BeforeValidator(_address)]


class FileReference(BaseModel):
    """A file that was sent to /v1/files, or the file itself as a data URL."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _one(self) -> FileReference:
        if bool(self.file_id) == bool(self.file_data):
            raise ValueError("give file_id or file_data")
        return self


class FilePart(BaseModel):
    """A picture or video by reference."""

    type: Literal["file"]
    file: FileReference


Part = Annotated[TextPart | ImagePart | VideoPart | FilePart, Field(discriminator="type")]


class Message(BaseModel):
    """One message. Fields that answers carry, such as ``refusal``, may come back and are left aside."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Words | list[Part] | None = None


class StreamOptions(BaseModel):
    """``include_usage``: a last chunk counts tokens."""

    include_usage: bool | None = None


class JsonSchema(BaseModel):
    """OpenAI's wrapper around a JSON schema."""

    name: Annotated[str, Field(max_length=256)] = "answer"
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


_NOTHING: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "moderation": (),
}
"""Fields that ask for what cannot be done, and the values, besides null, that ask for nothing."""
_IGNORED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
)
"""Fields that change nothing about an answer here."""


class ChatRequest(Strict):
    """A conversation about one picture or video, as OpenAI's chat completions; ``face`` is ours."""

    model: ModelName = ALIAS
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: Annotated[
        Annotated[str, Field(max_length=256)]
        | Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=4)]
        | None,
        Field(union_mode="left_to_right"),
    ] = None
    face: Face | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_asks_for_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, harmless in _NOTHING.items():
            value = given.get(name)
            if value is not None and value not in harmless:
                raise Problem(400, "unsupported", f"{name} is not supported", param=name)
        return {name: value for name, value in given.items() if name not in _NOTHING and name not in _IGNORED}


class AnalyzeRequest(Strict):
    """What ``facellava analyze`` takes."""

    media: Media
    tasks: Annotated[list[Annotated[str, Field(max_length=64)]] | None, Field(min_length=1, max_length=16)] = None
    mode: Literal["full", "movements"] = "full"
    policy: Literal["all", "paper"] = "all"
    explain: Annotated[bool, Field(description="False leaves out the model's own words.")] = True
    name: Annotated[str, Field(max_length=1024, description="Goes into the result's media field.")] = ""
    model: ModelName = ALIAS


class ScoreRequest(Strict):
    """A question with a closed list of answers."""

    media: Media
    question: Annotated[str, Field(min_length=1)]
    options: Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=2)]
    prefix: Annotated[str, Field(max_length=1024, description="The answer's beginning, before the options.")] = ""
    face: Face | None = None
    model: ModelName = ALIAS


class ScoredOption(BaseModel):
    """One option: the probability that the answer begins with it, among the options."""

    option: str
    probability: float


class ScoreResponse(BaseModel):
    """Options in the order of the request; ``best`` is the most probable."""

    object: Literal["score"] = "score"
    model: str
    best: str
    options: list[ScoredOption]
    facellava: dict[str, Any]


class LandmarksRequest(Strict):
    """Where the faces are."""

    media: Media
    model: ModelName = ALIAS


class TimelineRequest(Strict):
    """A video and a face in it."""

    media: Media
    face: Face | None = None
    mode: Literal["full", "movements"] = "full"
    model: ModelName = ALIAS


class WhyRequest(Strict):
    """A conversation as in chat that ends with the answer to be traced."""

    messages: Annotated[list[Message], Field(min_length=2)]
    face: Face | None = None
    model: ModelName = ALIAS


class FileObject(BaseModel):
    """OpenAI's file object."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str


class FileDeleted(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class ModelList(BaseModel):
    """One model."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


class ErrorDetails(BaseModel):
    """``code`` is stable: facellava's own (docs/exit-codes.md) or the server's (docs/server.md)."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every failure."""

    error: ErrorDetails
