"""Documents, answers and models that several tests share."""

import dataclasses
import datetime
import re

import leanrag
from leanrag import GenerationError
from leanrag.testing import FakeModel, HashEmbedder

PARK = "Releases are signed off by Ada Park. She works in Oslo and likes trains."
NILE = "The Nile is 6,650 km long. It flows through eleven countries."
QUESTION = "Who signs off the releases?"
RIGHT = "Releases are signed off by Ada Park."
WRONG = "Bananas grow in Brazil since 1999."
DAY = datetime.date(2026, 1, 2)


def open_rag(folder, reply=RIGHT, **options):
    """Open a folder with stand-ins for the model and the embedder."""
    model = options.pop("model", None) or FakeModel(reply)
    return leanrag.open(folder, model=model, embedder=options.pop("embedder", None) or HashEmbedder(), **options)


def number_in(prompt):
    """Return the number of the release that is asked about."""
    return int(re.search(r"release (\d+)\?", prompt)[1])


def model(name="small", wrong=lambda n: n % 4 == 0, fails=lambda n: False, **options):
    """Answer "Who signs off release N?"; wrongly, or with an error, for some numbers."""

    def reply(prompt):
        n = number_in(prompt)
        if fails(n):
            raise GenerationError(f"no power at {n}", model=name)
        return WRONG if wrong(n) else RIGHT

    return FakeModel(reply, name=name, **options)


class Failing(FakeModel):
    """Fails when it is asked, or after a number of words."""

    def __init__(self, error=None, after=None, **options):
        super().__init__("One two three four.", **options)
        self.error, self.after = error or GenerationError("the GPU is on fire", model=self.name), after

    def stream(self, prompt, options):
        if self.after is None:
            raise self.error
        return BrokenStream(super().stream(prompt, options), self.error, self.after)


class Reporting(FakeModel):
    """A model whose generations say something else of themselves."""

    def __init__(self, *arguments, says, **options):
        super().__init__(*arguments, **options)
        self.says = says

    def stream(self, prompt, options):
        return ReportingStream(super().stream(prompt, options), self.says)


class ReportingStream:
    """A stream with other fields in its result."""

    def __init__(self, stream, says):
        self.stream, self.says = stream, says

    def __iter__(self):
        return iter(self.stream)

    @property
    def result(self):
        return dataclasses.replace(self.stream.result, **self.says)

    def close(self):
        self.stream.close()


class BrokenStream:
    """A stream that ends in an error."""

    def __init__(self, stream, error, after):
        self.stream, self.error, self.after = stream, error, after

    def __iter__(self):
        for n, piece in enumerate(self.stream):
            if n == self.after:
                raise self.error
            yield piece

    @property
    def result(self):
        raise self.error

    def close(self):
        self.stream.close()
