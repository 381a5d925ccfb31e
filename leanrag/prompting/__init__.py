"""How models are asked: prompts from sources and a question, and the profile of each model.

The modules, in the order of data flow: `template` (sources and a question become a prompt) and `profiles` (what is best for
each model: its prompt, its answer forms, its budget of tokens).
"""

from leanrag.prompting.profiles import (
    STYLES,
    AnswerForm,
    ModelProfile,
    Style,
    find_profile,
    profile_named,
    profiles_digest,
)
from leanrag.prompting.template import CHAT_TEMPLATE, COMPLETION_TEMPLATE, PromptTemplate

__all__ = [
    "CHAT_TEMPLATE",
    "COMPLETION_TEMPLATE",
    "STYLES",
    "AnswerForm",
    "ModelProfile",
    "PromptTemplate",
    "Style",
    "find_profile",
    "profile_named",
    "profiles_digest",
]
