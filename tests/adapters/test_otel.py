"""Spans as the in-memory exporter of OpenTelemetry's SDK receives them."""

import pytest

import leanrag
from leanrag import Cascade
from leanrag.adapters import SpanLedger
from leanrag.ledger import Budget, CostLedger, SpendingLimitError
from leanrag.testing import FakeModel
from tests.stories import PARK, QUESTION, RIGHT, WRONG, open_rag

export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
sdk = pytest.importorskip("opentelemetry.sdk.trace")


class Priced(FakeModel):
    """Charges a cent a token."""

    def price(self, usage):
        return usage.total_tokens / 100


@pytest.fixture
def tracing():
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    yield provider, exporter.get_finished_spans
    provider.shutdown()


def test_a_question_is_a_span_and_each_stage_a_child(tmp_path, tracing):
    provider, spans = tracing
    with CostLedger() as inner:
        ledger = SpanLedger(inner, tracer_provider=provider)
        cascade = Cascade([FakeModel(WRONG, name="small"), Priced(RIGHT, name="large")])
        with open_rag(tmp_path, model=cascade, ledger=ledger) as rag:
            rag.add(leanrag.Document(PARK, id="park"))
            answer = rag.ask(QUESTION)
        assert {row["stage"] for row in inner.rows()} >= {"ingest", "retrieve", "decode"}
    ingest, *stages, root = spans()
    assert (ingest.name, ingest.parent, root.name, root.parent) == ("leanrag.ingest", None, "leanrag.ask", None)
    assert [span.attributes["leanrag.stage"] for span in stages] == [stage.name for stage in answer.trace]
    assert {span.parent.span_id for span in stages} == {root.context.span_id}
    for span, stage in zip(stages, answer.trace, strict=True):
        assert (span.end_time - span.start_time) / 1e9 == pytest.approx(stage.seconds, abs=1e-8)
    assert sum(span.end_time - span.start_time for span in stages) == root.end_time - root.start_time
    calls = [span for span in stages if span.attributes.get("gen_ai.operation.name") == "chat"]
    assert [span.name for span in calls] == ["chat small", "chat large"]
    assert [span.attributes["gen_ai.request.model"] for span in calls] == ["small", "large"]
    for name in ("input", "output"):
        total = sum(span.attributes[f"gen_ai.usage.{name}_tokens"] for span in calls)
        assert total == root.attributes[f"gen_ai.usage.{name}_tokens"] > 0
    assert root.attributes["leanrag.cost"] == answer.cost
    assert root.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert calls[1].attributes["leanrag.cost"] == pytest.approx(answer.cost)
    retrieval = next(span for span in stages if span.attributes["leanrag.stage"] == "retrieve")
    assert (retrieval.name, retrieval.attributes["gen_ai.operation.name"]) == ("retrieval", "retrieval")


def test_no_span_has_text_of_the_question_or_the_documents(tmp_path, tracing):
    provider, spans = tracing
    with open_rag(tmp_path, ledger=SpanLedger(tracer_provider=provider)) as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        rag.ask(QUESTION)
    shown = " ".join(f"{span.name} {dict(span.attributes)}" for span in spans())
    assert not any(word in shown for word in ("Ada", "releases", "Oslo"))


def test_a_hit_of_the_cache_says_so(tmp_path, tracing):
    provider, spans = tracing
    with open_rag(tmp_path, ledger=SpanLedger(tracer_provider=provider), cache="exact") as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        rag.ask(QUESTION)
        rag.ask(QUESTION)
    *_, stage, root = spans()
    assert (stage.name, stage.attributes["leanrag.tier"]) == ("leanrag.cache", "exact")
    assert root.attributes["gen_ai.usage.input_tokens"] == 0


@pytest.mark.parametrize("otherwise", ["refuse", "local"])
def test_the_budget_of_the_inner_ledger_is_kept_to(tmp_path, tracing, otherwise):
    with CostLedger(budget=Budget(per_question=0.0, otherwise=otherwise)) as inner:
        ledger = SpanLedger(inner, tracer_provider=tracing[0])
        assert ledger.ends_question is (otherwise == "refuse")
        with open_rag(tmp_path, model=Priced(RIGHT), ledger=ledger) as rag:
            rag.add(leanrag.Document(PARK, id="park"))
            with pytest.raises(SpendingLimitError):
                rag.ask(QUESTION)


def test_without_an_inner_ledger_there_is_no_budget():
    assert SpanLedger().refusal(None, 1e9) is None
    assert not SpanLedger().ends_question
