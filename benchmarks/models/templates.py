"""Are chat templates rendered as `transformers` renders them? The templates are those that llama.cpp is tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.models.llama_source import find_llama_models
from leanrag.errors import ConfigurationError
from leanrag.llama.templates import ChatTemplate
from leanrag.types import Message

__all__ = ["CONVERSATIONS", "measure", "renders_equal"]

_BOS, _EOS = "<s>", "</s>"
_QUESTION = Message("user", "Where is Zoë?")
CONVERSATIONS: Mapping[str, Sequence[Message]] = {
    "a question": (_QUESTION,),
    "a system message": (Message("system", "Be brief."), _QUESTION),
    "several turns": (
        Message("system", "Be brief."),
        _QUESTION,
        Message("assistant", "In the garden."),
        Message("user", "And Bo?"),
    ),
    "the assistant last": (_QUESTION, Message("assistant", "In the")),
    "hard text": (
        Message("user", "\"quotes\" 'single' <|im_end|> </s> {{ x }} {% if %} \\n \n\ttab é 日本 \\ & <b> 🙂\u2028end"),
    ),
}
"""What each template is tried with."""


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return how many renders were tried, and how many equal the reference, or are refused where the reference refuses."""
    del data, is_quick  # it takes seconds
    models = find_llama_models()
    if models is None:
        return {"templates_equal": None, "templates_tried": None}
    equal = tried = 0
    for path in sorted((models / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for name, messages in CONVERSATIONS.items():
            is_equal = renders_equal(source, messages)
            tried, equal = tried + 1, equal + is_equal
            if not is_equal:
                print(f"{path.name}: {name} differs")
    print(f"{equal} of {tried} renders equal the reference")
    return {"templates_equal": equal, "templates_tried": tried}


def renders_equal(source: str, messages: Sequence[Message]) -> bool:
    """Return whether a template is rendered as the reference does it, or refused as there.

    If the reference refuses a system message that we render, the text must be the reference's text of the same conversation with
    the system message at the beginning of the first user message.
    """
    expected = _reference(source, messages)
    try:
        rendered = ChatTemplate(source, bos=_BOS, eos=_EOS).render(messages)
    except ConfigurationError:
        return expected is None
    if expected is None and messages[0].role == "system":
        merged = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
        expected = _reference(source, [merged, *messages[2:]])
    return rendered == expected


def _reference(source: str, messages: Sequence[Message]) -> str | None:
    """Return the text of `transformers`, None if it refuses the messages."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rows = [{"role": message.role, "content": message.content} for message in messages]
    try:
        texts, _ = render_jinja_template(
            [rows], chat_template=source, add_generation_prompt=True, bos_token=_BOS, eos_token=_EOS
        )
    except Exception:  # noqa: BLE001 - a template can raise anything
        return None
    return str(texts[0])
