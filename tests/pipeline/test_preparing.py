"""How much a model is given to read is a property of the model."""

import leanrag
from leanrag.protocols import ReadsLittle
from leanrag.testing import FakeModel, HashEmbedder

TEXT = "The tower was built in 1889. " + " ".join(
    f"Garden number {i} has roses and a bench by the wall." for i in range(12)
)


class SmallModel(FakeModel):
    evidence_floor = 0.1


def sources(folder, model):
    with leanrag.open(folder, model=model, embedder=HashEmbedder()) as rag:
        rag.add_text(TEXT, title="Park")
        return rag.explain("When was the tower built?", context_tokens=100).packing


def test_a_small_model_reads_the_strong_evidence_and_others_all_that_fits(tmp_path):
    small, other = sources(tmp_path / "small", SmallModel()), sources(tmp_path / "other", FakeModel())
    assert isinstance(SmallModel(), ReadsLittle)
    assert not isinstance(FakeModel(), ReadsLittle)
    assert "1889" in small.items[0].text
    assert "1889" in other.items[0].text
    assert small.tokens < 60 < other.tokens <= 100
