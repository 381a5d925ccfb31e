"""`leanrag serve`: what it refuses, and that it runs until a signal."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from leanrag.cli.main import main


def test_a_port_in_use_is_an_error_that_says_what_to_do(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(tmp_path), "--port", port]) == 2
    assert f"port {port}" in capsys.readouterr().err


def test_an_address_that_others_reach_needs_keys(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("LEANRAG_KEYS", raising=False)
    assert main(["serve", str(tmp_path), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "LEANRAG_KEYS" in capsys.readouterr().err


def test_bad_keys_are_refused_without_being_shown(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEYS", "secret")
    assert main(["serve", str(tmp_path), "--keys-env", "MY_KEYS"]) == 2
    error = capsys.readouterr().err
    assert "MY_KEYS" in error
    assert "secret" not in error


def test_two_folders_of_one_name_are_refused(capsys, tmp_path):
    assert main(["serve", str(tmp_path / "a" / "kb"), str(tmp_path / "b" / "kb")]) == 2
    assert "same name" in capsys.readouterr().err


def test_a_missing_package_names_its_extra(capsys, monkeypatch, tmp_path):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else found(name, *rest)
    )
    assert main(["serve", str(tmp_path)]) == 1
    assert "leanrag[server]" in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
def test_a_server_answers_until_it_is_told_to_stop(tmp_path):
    (tmp_path / "rules.txt").write_text("Ada Park signs all permits.")
    command = [sys.executable, "-m", "leanrag"]
    folder = str(tmp_path / "kb")
    subprocess.run([*command, "add", str(tmp_path / "rules.txt"), "--folder", folder], check=True, capture_output=True)
    options = ["--port", "0", "--model", "smollm2-135m+reader", "--models", "smollm2-135m", "--max-tokens", "8"]
    environment = {**os.environ, "LEANRAG_KEYS": ""}
    with subprocess.Popen(
        [*command, "serve", folder, *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        line = server.stdout.readline()
        assert line.startswith("leanrag serves kb, smollm2-135m on http://127.0.0.1:")
        url = line.split()[-1]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            names = [model["id"] for model in client.get("/v1/models").json()["data"]]
            assert names == ["leanrag", "kb", "smollm2-135m", "all-minilm-l6-v2"]
            messages = [{"role": "user", "content": "Who signs all permits?"}]
            answer = client.post("/v1/chat/completions", json={"model": "kb", "messages": messages}).json()
            assert answer["leanrag"]["model"] == "smollm2-135m+reader"
            assert answer["leanrag"]["calibrated"]  # as for `leanrag ask`
            response = client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": "permits"})
            assert len(response.json()["data"][0]["embedding"]) == 384
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@pytest.mark.filterwarnings("ignore")  # of Ray
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--models", "smollm2-135m"], "`--models`, `--allow-origin` and `--config` cannot be used with `--ray`"),
        (["--replicas", "0"], "the setting 'max_replicas' of the replicas is 0, which is wrong"),
        (["--replicas", "1", "--least-replicas", "2"], "`min_replicas` must be at most `max_replicas`, got 2 and 1"),
    ],
)
@pytest.mark.slow
def test_replicas_that_cannot_be_are_refused(tmp_path, capsys, arguments, problem):
    pytest.importorskip("ray")
    assert main(["serve", str(tmp_path), "--ray", *arguments]) == 2
    assert problem in capsys.readouterr().err
