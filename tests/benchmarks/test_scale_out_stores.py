"""How the cases of the contract are counted."""

import pytest

pytest.importorskip("psycopg")
pytest.importorskip("qdrant_client")
pytest.importorskip("pymilvus")

pytestmark = pytest.mark.slow  # imports three clients

REPORT = """<testsuites><testsuite>
<testcase classname="tests.adapters.test_vector_engines.TestPgVectorIndex" name="a" time="1"/>
<testcase classname="tests.adapters.test_vector_engines.TestPgVectorIndex" name="b"><failure message="no"/></testcase>
<testcase classname="tests.adapters.test_vector_engines.TestMilvusStandIn" name="a"><error message="no"/></testcase>
<testcase classname="tests.adapters.test_vector_engines.TestMilvusStandIn" name="b"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_failures_errors_and_skipped_cases_are_counted():
    from benchmarks.scale_out.stores import count_cases

    assert count_cases(REPORT) == {
        "contract_cases": 4,
        "contract_failures": 2,
        "contract_skipped": 1,
        "contract_failures_pgvectorindex": 1,
        "contract_failures_milvusstandin": 1,
    }
